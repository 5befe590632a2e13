// A stand-in for the provider, to try the example without an account: node provider.mjs [PORT]. It knows two words.
import { createServer } from 'node:http'

createServer(async (request, response) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const text = JSON.parse(Buffer.concat(chunks).toString() || '{}').input ?? ''
  const violence = /hurt/.test(text) ? 0.97 : /crime/.test(text) ? 0.51 : 0.01
  const isKnown = request.url === '/v1/moderations' && request.headers.authorization?.startsWith('Bearer ')
  response.writeHead(isKnown ? 200 : 401, { 'content-type': 'application/json' })
  response.end(JSON.stringify(isKnown ? { results: [{ category_scores: { violence, spam: 0.02 } }] } : {}))
}).listen(Number(process.argv[2] ?? 9321), '127.0.0.1', function () {
  console.log(`http://127.0.0.1:${this.address().port}`)
})

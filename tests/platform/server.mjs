// A PostgREST-compatible server on 127.0.0.1, for a throw-away database only. It prints its URL, and
// ends when its standard input does.
//
// @supabase/lite 0.10.0 is alpha. Where it falls short of PostgREST and we know what PostgREST does:
//  - it answers 500 with the message alone to an SQLSTATE it has no rule for, and drops the hint of 23505.
//    PostgREST answers 400, or 409, with code, message, details and hint (its page on errors).
//  - it sends a jsonb argument of a function as JSON of JSON, a string, to a real Postgres.
//  - it grants ALL on the tables of every schema with row security at the first request: clients_test.go
//    takes that back, and checks that it stayed taken.
import { serve } from '@hono/node-server'
import { App } from '@supabase/lite'
import { createPostgresConnection } from '@supabase/lite/postgres'

/** The error as lite passes it on whole: PostgREST's own form for an error with a status. */
function whole(error) {
  const status = error.code === '23505' ? 409 : /^LL\d{3}$/.test(error.code) ? 400 : 0
  if (status === 0) return error
  const { code, message, detail = null, hint = null } = error
  return Object.assign(new Error(JSON.stringify({ code, message, details: detail, hint })),
    { code: 'PGRST', detail: JSON.stringify({ status, headers: {} }) })
}

/** The values with each jsonb argument (p := $1::jsonb) as JSON once. */
function once(text, values) {
  return values?.map((value, i) =>
    typeof value === 'string' && text.includes(`:= $${i + 1}::jsonb`) ? JSON.parse(value) : value)
}

const connection = createPostgresConnection({ url: process.env.DATABASE_URL })
const reserve = connection.driver.reserve
connection.driver.reserve = async () => {
  const reserved = await reserve()
  const unsafe = reserved.unsafe
  reserved.unsafe = async (text, values, ...rest) => {
    try {
      return await unsafe(text, once(text, values), ...rest)
    } catch (error) {
      throw whole(error)
    }
  }
  return reserved
}

const app = new App({
  connection,
  api: { schemas: ['public', 'ledger'], max_rows: 1000 },
  auth: { enabled: true, jwt_secret: process.env.JWT_SECRET },
  options: { server: { apiKeys: false } },
})
await app.init()
serve({ fetch: (request) => app.fetch(request), hostname: '127.0.0.1', port: 0 }, ({ port }) =>
  console.log(`ready http://127.0.0.1:${port}`))
process.stdin.on('end', () => process.exit(0)).resume()

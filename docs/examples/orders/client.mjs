// Places one order as a signed-in user, by supabase-js, and waits for what becomes of it:
//
//     node client.mjs lamp 2 tok_ok
//
// It ends with 0 where the order is shipped, with 1 where it failed or waits, with 2 where it is used wrongly.
import { createClient } from '@supabase/supabase-js'

const { SUPABASE_URL, SUPABASE_ANON_KEY, USER_EMAIL, USER_PASSWORD, USER_TOKEN, OPS_USER_ID } = process.env
const [item, quantity, card] = process.argv.slice(2)
if (!SUPABASE_URL || !SUPABASE_ANON_KEY || !OPS_USER_ID || !card) {
  console.error('usage: SUPABASE_URL=… SUPABASE_ANON_KEY=… OPS_USER_ID=… node client.mjs ITEM QUANTITY CARD')
  process.exit(2)
}

const supabase = createClient(SUPABASE_URL, SUPABASE_ANON_KEY, {
  ...(USER_TOKEN && { accessToken: async () => USER_TOKEN }), // of your own login; without it by password
  realtime: { transport: globalThis.WebSocket ?? class {} }, // for Node 20 and older
})
if (!USER_TOKEN) must(await supabase.auth.signInWithPassword({ email: USER_EMAIL, password: USER_PASSWORD }))
const ledger = supabase.schema('ledger')

/** The data of an answer; a refusal is printed as the ledger says it. */
function must({ data, error }) {
  if (!error) return data
  console.error([error.message, error.hint].filter(Boolean).join('\n'))
  process.exit(1)
}

/** Appends the order. With an id of our own it may be sent again after a lost answer, and is there once. */
async function place(id) {
  const order = { id, seq: 0, entity_type: 'order', status: 'placed', visibility: 'tenant', name: `order of ${item}`,
    content: { item, quantity: Number(quantity), card } }
  const options = { onConflict: 'id,seq', ignoreDuplicates: true }
  for (const isLast of [false, false, true]) {
    const answer = await ledger.from('universal_registry').upsert(order, options)
    const isRefused = answer.error && answer.status >= 400 && answer.status < 500
    if (!answer.error || isRefused || isLast) return must(answer)
  }
}

/** Asks until the fulfilment has come to rest. Its owner is stated: anybody of the tenant could write one. */
async function settled(order, waitMs = 30_000) {
  const end = Date.now() + waitMs
  for (let pauseMs = 50; Date.now() < end; pauseMs = Math.min(pauseMs * 1.5, 1000)) {
    const state = must(await ledger.from('visible_timeline').select('status, reason, content')
      .eq('entity_type', 'fulfilment').eq('parent_id', order).eq('owner_id', OPS_USER_ID).maybeSingle())
    if (['shipped', 'failed', 'waiting'].includes(state?.status)) return state
    await new Promise((done) => setTimeout(done, pauseMs))
  }
  return { status: 'received', reason: `nothing more is known after ${waitMs} ms` }
}

const id = crypto.randomUUID()
await place(id)
const { status, reason, content } = await settled(id)
console.log([status, content?.parcel, reason].filter(Boolean).join(': '))
process.exit(status === 'shipped' ? 0 : 1)

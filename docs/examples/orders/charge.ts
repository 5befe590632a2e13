/**
 * orders.charge: takes the money for one order.
 *
 * What the bank decides (declined) is an output; what went wrong on the way there is thrown, and tried again
 * (metadata.retry). In the place of `bank` stands your call of ctx.fetch: README.md, "Make it yours".
 */
type Ctx = import("../../../kernels/kernel").FunctionCtx;

interface Input {
  fulfilment: string;
  item: string;
  quantity: number;
  card: string;
}

export default async function main(ctx: Ctx) {
  const { fulfilment, item, quantity, card } = ctx.input as Input;
  // The price is ours, whatever the order says. APP_USER_ID is who runs this: the owner of the pipeline.
  const [product] = await ctx.find({ entity_type: "product", name: item, owner_id: ctx.env.APP_USER_ID }, 1);
  const cents = (product?.content as { cents?: number } | undefined)?.cents;
  if (cents === undefined) return { fulfilment, declined: `there is no product ${item}` };
  if (!Number.isInteger(quantity) || quantity < 1) return { fulfilment, declined: "the quantity is no whole number" };
  return { fulfilment, cents: cents * quantity, ...bank(card) };
}

/** A bank for trying: it knows three cards. */
function bank(card: string): { charge: string } | { declined: string } {
  if (card === "tok_silent") throw new Error("the bank does not answer");
  return card === "tok_ok" ? { charge: `ch_${crypto.randomUUID()}` } : { declined: "the bank refuses the card" };
}

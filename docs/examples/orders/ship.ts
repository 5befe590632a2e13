/** orders.ship: sends what was paid for, or says that there is none of it. */
type Ctx = import("../../../kernels/kernel").FunctionCtx;

export default async function main(ctx: Ctx) {
  const { fulfilment, item } = ctx.input as { fulfilment: string; item: string };
  const [product] = await ctx.find({ entity_type: "product", name: item, owner_id: ctx.env.APP_USER_ID }, 1);
  const stock = (product?.content as { stock?: number } | undefined)?.stock ?? 0;
  if (stock < 1) return { fulfilment, waiting: `${item} is out of stock` };
  return { fulfilment, parcel: `parcel-${fulfilment.slice(-12)}` }; // the same, however often it is asked for
}

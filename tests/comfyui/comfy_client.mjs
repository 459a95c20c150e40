// What a user of `@comfyorg/sdk` does: submit, follow, download. COMFY_SDK is the address of the module.
const [graph, picture, target] = process.argv.slice(2);
const { Comfy } = await import(process.env.COMFY_SDK);
const client = new Comfy();
const workflow = await client.workflows.fromFile(graph);
const asset = client.assets.fromFile(picture);
workflow.setInput("1", "image", asset);
const job = await client.submit(workflow);
const kinds = {};
for await (const event of job.events()) {
  kinds[event.kind] = (kinds[event.kind] ?? 0) + 1;
}
await job.wait();
await job.outputs[0].toFile(target);
console.log(JSON.stringify({ id: job.id, status: job.status, kinds }));

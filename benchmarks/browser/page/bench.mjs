// The measured page: it asks for a request, does it, answers, and asks again. While it measures it does nothing else.
import { classPlanes, maskAt, toInput } from './pixels.mjs';
import { granted, start, workers } from './runtimes.mjs';
import { resolution, sample } from './timing.mjs';

const base = new URLSearchParams(location.search).get('session');
const now = () => performance.now();
const ns = (milliseconds) => Math.round(milliseconds * 1e6);
const ARRAYS = { float32: Float32Array, uint8: Uint8Array };

const fetched = async (path) => {
  const reply = await fetch(path);
  if (!reply.ok) throw new Error(`${path}: ${reply.status} ${reply.statusText}`);
  return reply.arrayBuffer();
};
const send = (name, body) => fetch(`${base}/${name}`, { method: 'POST', body });

let opened;
let input;
let inputs = [];
let references = [];
let steps = 0;

async function open(request) {
  input = request.input;
  const bytes = new Uint8Array(await fetched(request.file));
  const begin = now();
  const runtime = await start(request.runtime, request.threads);
  (await runtime.open(bytes.slice(), input)).close();
  const cold = now() - begin;
  const again = now();
  opened = await runtime.open(bytes.slice(), input);
  const load = now() - again;
  for (let i = 0; i < request.inputs; i += 1) inputs.push(typed(await fetched(`${base}/input/${i}`)));
  const before = now();
  const answer = await opened.run(inputs[0]);
  const first = now() - before;
  references = [];
  for (const one of inputs.slice(0, request.references)) references.push((await opened.run(one)).values.slice());
  return {
    import_and_load_ns: ns(cold),
    load_ns: ns(load),
    first_ns: ns(first),
    inputs: inputs.length,
    output_shape: Array.from(answer.shape),
    output_dtype: answer.dtype,
    clock_resolution_ns: ns(resolution(now)),
    granted: granted(),
    workers,
    runtime: request.runtime,
    details: { runtime: request.runtime, ...runtime.details() },
  };
}

const typed = (buffer) => new ARRAYS[input.dtype](buffer);

async function window_(request) {
  const done = await sample({ ...loop(request), references: [], share: 0, rotate: true, from: steps });
  steps += done.samples.length;
  return { samples_ns: done.samples.map(ns) };
}

async function sampled(request) {
  const done = await sample({ ...loop(request), references, share: request.share, rotate: request.rotate });
  return { samples_ns: done.samples.map(ns), wall_ns: ns(done.wall), audit: done.audit };
}

const loop = (request) => ({ run: opened.run, inputs, count: request.samples, seconds: request.seconds, seed: request.seed, now });

async function infer() {
  const answer = await opened.run(typed(await fetched(`${base}/probe`)));
  await send('output', answer.values.slice());
  return { shape: Array.from(answer.shape), dtype: answer.values.constructor.name };
}

/** Whole photographs to masks of their own size, two untimed first. */
async function imageToMask({ photos, contract, fewest, most, seconds }) {
  const ready = [];
  for (const [number, size] of photos.entries()) ready.push({ size, rgba: opaque(new Uint8Array(await fetched(`${base}/photo/${number}`))) });
  const one = async ({ rgba, size }) => maskAt(classPlanes(await opened.run(toInput(rgba, size, contract)), contract), size);
  for (const photo of ready.slice(0, 2)) await one(photo);
  const samples = [];
  const end = now() + seconds * 1000;
  while (samples.length < fewest || (samples.length < most && now() < end)) {
    const begin = now();
    await one(ready[samples.length % ready.length]);
    samples.push(now() - begin);
  }
  return { samples_ns: samples.map(ns) };
}

/** RGB as a canvas would hold it. */
function opaque(rgb) {
  const rgba = new Uint8ClampedArray((rgb.length / 3) * 4).fill(255);
  for (let i = 0, to = 0; i < rgb.length; i += 3, to += 4) rgba.set(rgb.subarray(i, i + 3), to);
  return rgba;
}

const requests = { image_to_mask: imageToMask, open, window: window_, sample: sampled, infer };

async function serve() {
  await send('answer', JSON.stringify({ here: true }));
  for (;;) {
    const reply = await fetch(`${base}/request`);
    if (reply.status === 204) continue;
    if (!reply.ok) return;
    const request = JSON.parse(await reply.text());
    let answer;
    try {
      answer = await requests[request.do](request);
    } catch (error) {
      answer = { error: `${error?.name ?? 'error'}: ${error?.message ?? error}`.split(/\s+/).join(' ').slice(0, 500) };
    }
    await send('answer', JSON.stringify(answer));
  }
}

new EventSource(`${base}/alive`); // its connection ends with this page, however that ends
serve();

// One runtime with one number of threads in a realm of its own: neither runtime can change its threads once started.
import { classPlanes, toInput } from './pixels.mjs';
import { granted, start } from './runtimes.mjs';

globalThis.lightseg = async (artifact, runtime, threads) => {
  const reply = await fetch(artifact.url);
  if (!reply.ok) throw new Error(`${artifact.file} could not be fetched (${reply.status})`);
  const bytes = new Uint8Array(await reply.arrayBuffer());
  const begin = performance.now();
  const started = await start(runtime, threads);
  const { contract } = artifact;
  const [height, width] = contract.size;
  const shape = contract.takes === 'NHWC' ? [1, height, width, 3] : [1, 3, height, width];
  const opened = await started.open(bytes, { shape, dtype: contract.dtype });
  const loaded = performance.now() - begin;
  /** RGBA of `size` to class planes, with the milliseconds of the two parts. */
  const look = async (rgba, size) => {
    const first = performance.now();
    const input = toInput(rgba, size, contract);
    const second = performance.now();
    const answer = await opened.run(input);
    const third = performance.now();
    return { ...classPlanes(answer, contract), prepare: second - first, run: third - second };
  };
  return { look, loaded, details: () => ({ ...started.details(), ...granted() }) };
};

// The two runtimes behind one face: start it, open a file, and run: a typed array in, a typed array out.
// `run` is all an application pays for: the copies into and out of WebAssembly memory are inside, since
// onnxruntime-web has no call without them.

/** WebAssembly threads that were started in this page: each is one worker. */
export let workers = 0;
globalThis.Worker = class extends globalThis.Worker {
  constructor(...args) { super(...args); workers += 1; }
};

const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);

/** What this browser grants a page, in words. */
export function granted() {
  return {
    isolated: globalThis.crossOriginIsolated === true,
    simd: WebAssembly.validate(SIMD),
    processors: navigator.hardwareConcurrency,
    agent: navigator.userAgent,
  };
}

/** A started runtime with open(bytes, input) -> {run, details, close}; `input` is {shape, dtype} as the file takes it. */
export async function start(name, threads) {
  if (threads > 1 && !globalThis.crossOriginIsolated) {
    throw new Error('this page is not cross-origin isolated, so the browser gives it no threads');
  }
  if (name === 'onnxruntime-web') return onnxruntime(threads);
  if (name === 'LiteRT.js') return litert(threads);
  throw new Error(`no runtime ${name}`);
}

async function onnxruntime(threads) {
  const folder = '/runtimes/onnxruntime-web/dist/';
  const ort = await import(`${folder}ort.wasm.min.mjs`);
  ort.env.wasm.wasmPaths = folder;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = 'error';
  const open = async (bytes, input) => {
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'], graphOptimizationLevel: 'all' });
    const [from] = session.inputNames;
    const [to] = session.outputNames;
    const run = async (values) => {
      const answer = (await session.run({ [from]: new ort.Tensor(input.dtype, values, input.shape) }))[to];
      return { values: answer.data, shape: answer.dims, dtype: answer.type };
    };
    return { run, close: () => session.release() };
  };
  const details = () => ({ version: ort.env.versions.web, provider: 'wasm', threads: String(ort.env.wasm.numThreads) });
  return { open, details };
}

async function litert(threads) {
  const library = await import('/runtimes/litertjs-core/dist/index.js');
  const runtime = await library.loadLiteRt('/runtimes/litertjs-core/wasm/', { threads: threads > 1 });
  const used = new Set();
  const open = async (bytes, input) => {
    const model = await library.loadAndCompile(bytes, { accelerator: 'wasm', cpuOptions: { numThreads: threads } });
    used.add(model.options?.accelerator ?? 'wasm');
    const run = async (values) => {
      const tensor = new library.Tensor(values, input.shape);
      const outputs = await model.run(tensor);
      const [output] = outputs;
      const answer = { values: output.toTypedArray(), shape: Array.from(output.type.layout.dimensions), dtype: output.type.dtype };
      for (const one of outputs) one.delete();
      tensor.delete();
      return answer;
    };
    return { run, close: () => model.delete() };
  };
  const details = () => ({ provider: [...used].join(), threads: String(threads), pool: String(runtime.liteRtWasm.getThreadCount()) });
  return { open, details };
}

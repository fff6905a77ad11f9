// The timing loop under a clock that a test moves: every run takes a millisecond, or what `slow` says.
const { random, relativeError, resolution, sample } = await import(`${process.env.LIGHTSEG_PAGE}/timing.mjs`);

/** Samples of a made-up runtime; `broken` is the run from which outputs are wrong. */
export async function timed({ inputs, count, seconds, rotate = true, share = 1, broken = Infinity, frozen = false }) {
  let clock = 0;
  let runs = 0;
  const order = [];
  const run = async (x) => {
    clock += 1;
    runs += 1;
    order.push(x);
    return { values: Float32Array.of(frozen ? 1 : x, runs > broken ? 9 : 2) };
  };
  const references = inputs.slice(0, 2).map((x) => Float32Array.of(frozen ? 1 : x, 2));
  const done = await sample({ run, inputs, references, count, seconds, rotate, share, seed: 1, now: () => clock });
  return { ...done, order };
}

export const clockSteps = (step) => { let i = 0; return resolution(() => { i += 1; return Math.floor(i / 7) * step; }); };
export const off = (a, b) => { const error = relativeError(a, b); return Number.isFinite(error) ? error : 'infinite'; };
export const shareBelow = (half) => { const next = random(3); let n = 0; for (let i = 0; i < 10000; i += 1) n += next() < half; return n / 10000; };

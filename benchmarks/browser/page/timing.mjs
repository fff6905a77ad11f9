// Timing without a page: the loop, the audit and the clock. Times are milliseconds of `now`.

/** The smallest step `now` was seen to make, of `tries`. */
export function resolution(now, tries = 50) {
  let smallest = Infinity;
  for (let i = 0; i < tries; i += 1) {
    const before = now();
    let after = now();
    while (after === before) after = now();
    smallest = Math.min(smallest, after - before);
  }
  return smallest;
}

/** max|a - b| / max|b|; infinite where a value is no number. */
export function relativeError(values, reference) {
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < reference.length; i += 1) {
    const wanted = Number(reference[i]); // 64-bit integers are no numbers to JavaScript
    const off = Math.abs(Number(values[i]) - wanted);
    if (!(off <= worst)) worst = Number.isFinite(off) ? off : Infinity;
    largest = Math.max(largest, Math.abs(wanted));
  }
  return values.length === reference.length ? worst / (largest || 1) : Infinity;
}

const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

/** Random numbers in 0...1 from a seed (a 32-bit linear congruential generator: which runs are audited, no more). */
export function random(seed) {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 4294967296;
  };
}

/**
 * Run until `count` runs and `seconds` are both reached. With `rotate` the inputs take turns, else the first repeats.
 * Of inputs with a reference, a `share` of the runs and the last one are audited. Returns every sample.
 */
export async function sample({ run, inputs, references, count, seconds, rotate, share, seed, now, from = 0 }) {
  const samples = [];
  const chance = random(seed);
  const audit = { checked: 0, worst: 0, distinct: references.slice(1).every((one) => !same(references[0], one)) };
  const check = (index, answer) => {
    if (index >= references.length) return;
    audit.checked += 1;
    const error = relativeError(answer.values, references[index]);
    audit.worst = Math.max(audit.worst, Number.isFinite(error) ? error : Number.MAX_VALUE);
  };
  const begin = now();
  let index = 0;
  let answer;
  while (samples.length < count || now() - begin < seconds * 1000) {
    index = rotate ? (from + samples.length) % inputs.length : 0;
    const start = now();
    answer = await run(inputs[index]);
    samples.push(now() - start);
    if (index < references.length && chance() < share) check(index, answer);
  }
  const wall = now() - begin;
  check(index, answer);
  return { samples, wall, audit };
}

// From a photograph to the network's input and from its logits to a mask, as the Python package does it.
// Photographs are RGBA (as a canvas gives them; opacity is ignored). Sizes are [height, width].

const BITS = 22; // of a weight's fraction: the products of a byte and these still fit in 32 bits, summed

/** For every output position along one axis: where its inputs begin, and their fixed-point weights. */
export function weights(have, want) {
  const scale = have / want;
  const widened = Math.max(scale, 1); // shrinking averages over as many pixels as fall on one; no aliasing
  return Array.from({ length: want }, (_, position) => {
    const centre = (position + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - widened + 0.5));
    const past = Math.min(have, Math.trunc(centre + widened + 0.5));
    const shares = [];
    let sum = 0;
    for (let at = first; at < past; at += 1) {
      const share = Math.max(0, 1 - Math.abs((at - centre + 0.5) * (1 / widened)));
      shares.push(share);
      sum += share;
    }
    return { first, values: Int32Array.from(shares, (share) => Math.trunc(0.5 + (share / sum) * 2 ** BITS)) };
  });
}

const HALF = 1 << (BITS - 1);
const byte = (sum) => Math.min(255, Math.max(0, sum >> BITS));

/**
 * Bilinear, widened when shrinking, rounded to bytes after each axis. RGBA in, RGB out. Pillow's, bit for bit where it
 * takes the width first; newer ones sometimes take the height first, which moves some values by one of 255 levels.
 */
export function resize(rgba, [height, width], [tall, wide]) {
  const rows = new Uint8Array(height * wide * 3);
  const across = weights(width, wide);
  for (let x = 0; x < wide; x += 1) {
    const { first, values } = across[x];
    for (let y = 0; y < height; y += 1) {
      let r = HALF, g = HALF, b = HALF;
      let from = (y * width + first) * 4;
      for (let k = 0; k < values.length; k += 1, from += 4) {
        r += rgba[from] * values[k];
        g += rgba[from + 1] * values[k];
        b += rgba[from + 2] * values[k];
      }
      const to = (y * wide + x) * 3;
      rows[to] = byte(r);
      rows[to + 1] = byte(g);
      rows[to + 2] = byte(b);
    }
  }
  if (tall === height) return rows;
  const small = new Uint8Array(tall * wide * 3);
  const line = wide * 3;
  weights(height, tall).forEach(({ first, values }, y) => {
    for (let i = 0; i < line; i += 1) {
      let sum = HALF;
      for (let k = 0; k < values.length; k += 1) sum += rows[(first + k) * line + i] * values[k];
      small[y * line + i] = byte(sum);
    }
  });
  return small;
}

/** RGB bytes to what the file takes: channels in the weights' order, (v - mean) / std in single precision. */
export function normalise(rgb, { size: [height, width], takes, dtype, preprocess }) {
  const pixels = height * width;
  const out = dtype === 'uint8' ? new Uint8Array(pixels * 3) : new Float32Array(pixels * 3);
  const [step, plane] = takes === 'NHWC' ? [3, 1] : [1, pixels];
  for (let channel = 0; channel < 3; channel += 1) {
    const source = preprocess.order === 'BGR' ? 2 - channel : channel;
    const mean = Math.fround(preprocess.mean[channel]);
    const std = Math.fround(preprocess.std[channel]);
    for (let i = 0; i < pixels; i += 1) {
      const value = rgb[i * 3 + source];
      out[i * step + channel * plane] = dtype === 'uint8' ? value : Math.fround(value - mean) / std;
    }
  }
  return out;
}

export const toInput = (rgba, size, contract) => normalise(resize(rgba, size, contract.size), contract);

/** One plane per class, as C×h×w: a single channel is the logit of class 1, channels beyond the classes are dropped. */
export function classPlanes({ values, shape }, { gives, classes }) {
  const [channels, height, width] = gives === 'NHWC' ? [shape[3], shape[1], shape[2]] : shape.slice(1);
  const pixels = height * width;
  const single = channels === 1 && classes === 2;
  if (channels < classes && !single) throw new Error(`an output of ${channels} channels does not fit ${classes} classes`);
  const [step, plane] = gives === 'NHWC' ? [channels, 1] : [1, pixels];
  const planes = Array.from({ length: classes }, () => new Float32Array(pixels));
  for (let c = 0; c < classes; c += 1) {
    const from = single ? 0 : c;
    if (single && c === 0) continue;
    for (let i = 0; i < pixels; i += 1) {
      const value = values[i * step + from * plane];
      if (!Number.isFinite(value)) throw new Error('the network answers NaN or infinity');
      planes[c][i] = value;
    }
  }
  return { planes, size: [height, width] };
}

/** Lower and upper neighbour and the upper one's share, for every output position along one axis. */
function taps(have, want) {
  const low = new Int32Array(want);
  const high = new Int32Array(want);
  const share = new Float32Array(want);
  for (let i = 0; i < want; i += 1) {
    const centre = Math.min(Math.max(((i + 0.5) * have) / want - 0.5, 0), have - 1);
    low[i] = Math.floor(centre);
    high[i] = Math.min(low[i] + 1, have - 1);
    share[i] = centre - low[i];
  }
  return { low, high, share };
}

/** Calls `each(y, row)` with every row of a plane at another size: two nearest samples each way, centres at halves. */
function enlarge(planes, [height, width], [tall, wide], each) {
  const vertical = taps(height, tall);
  const { low, high, share } = taps(width, wide);
  const rows = planes.map(() => new Float32Array(wide));
  const line = new Float32Array(width);
  for (let y = 0; y < tall; y += 1) {
    const [top, bottom, t] = [vertical.low[y] * width, vertical.high[y] * width, vertical.share[y]];
    planes.forEach((plane, c) => {
      for (let x = 0; x < width; x += 1) line[x] = plane[top + x] * (1 - t) + plane[bottom + x] * t;
      const row = rows[c];
      for (let x = 0; x < wide; x += 1) row[x] = line[low[x]] * (1 - share[x]) + line[high[x]] * share[x];
    });
    each(y, rows);
  }
}

/** Class index of every pixel at another size: logits are enlarged first, so that edges come out smooth. */
export function maskAt({ planes, size }, at) {
  const mask = new Uint8Array(at[0] * at[1]);
  enlarge(planes, size, at, (y, rows) => {
    for (let x = 0; x < at[1]; x += 1) {
      let best = 0;
      for (let c = 1; c < rows.length; c += 1) if (rows[c][x] > rows[best][x]) best = c;
      mask[y * at[1] + x] = best;
    }
  });
  return mask;
}

/** Opacity of a cut-out, 0...1: the log-odds of all `kept` classes together, from -1 to 1. */
export function alphaAt({ planes, size }, at, kept) {
  const alpha = new Float32Array(at[0] * at[1]);
  const inside = planes.map((_, c) => kept.includes(c));
  const only = inside.indexOf(true);
  enlarge(planes, size, at, (y, rows) => {
    for (let x = 0; x < at[1] && rows.length === 2; x += 1) { // of two classes the difference is the log-odds
      alpha[y * at[1] + x] = Math.min(1, Math.max(0, (rows[only][x] - rows[1 - only][x] + 1) / 2));
    }
    for (let x = 0; x < at[1] && rows.length > 2; x += 1) {
      let top = -Infinity;
      for (let c = 0; c < rows.length; c += 1) top = Math.max(top, rows[c][x]);
      let [yes, no] = [0, 0];
      for (let c = 0; c < rows.length; c += 1) {
        const power = Math.exp(rows[c][x] - top);
        if (inside[c]) yes += power; else no += power;
      }
      alpha[y * at[1] + x] = Math.min(1, Math.max(0, (Math.log(yes) - Math.log(no) + 1) / 2));
    }
  });
  return alpha;
}

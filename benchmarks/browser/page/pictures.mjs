// Pictures: read from a file, painted as one of the views, put on a canvas.

export const VIEWS = ['Overlay', 'Cut-out', 'Mask', 'Photo'];
const PIXELS = 60e6; // more than this and the tab may run out of memory
const TINT = 0.5;

export class Trouble extends Error {} // said to the user as it is

/** A file or blob as RGBA on white, rotated as a viewer shows it, its colour profile ignored as in training. */
export async function photo(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: 'from-image', colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  } catch {
    throw new Trouble(`${name} is no picture this browser can read; take a JPEG, PNG or WebP file.`);
  }
  const { width, height } = bitmap;
  if (width * height > PIXELS) throw new Trouble(`${name} has ${(width * height / 1e6).toFixed(0)} million pixels, more than this page takes (${PIXELS / 1e6}); shrink it first.`);
  const pen = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  pen.fillStyle = '#fff';
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { picture: pen.canvas, size: [height, width], rgba: pen.getImageData(0, 0, width, height).data, name };
}

/** A result as pixels of one view, in the `colours` of its classes; what it was seen in is `source.picture`. */
export function pixels(view, { at: [height, width], alpha, mask, source }, colours) {
  const pen = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  pen.drawImage(source.picture, 0, 0, width, height);
  if (view === 'Photo') return pen.canvas;
  const image = pen.getImageData(0, 0, width, height);
  const { data } = image;
  const two = colours.length === 2;
  for (let i = 0, p = 0; i < mask.length; i += 1, p += 4) {
    if (view === 'Cut-out') {
      data[p + 3] = Math.round(alpha[i] * 255);
    } else {
      const paint = two ? colours[1] : colours[mask[i]];
      const share = view === 'Mask' ? 1 : two ? TINT * alpha[i] : TINT;
      const flat = two ? (mask[i] ? [255, 255, 255] : [0, 0, 0]) : paint;
      for (let c = 0; c < 3; c += 1) data[p + c] = view === 'Mask' ? flat[c] : data[p + c] + (paint[c] - data[p + c]) * share;
    }
  }
  pen.putImageData(image, 0, 0);
  return pen.canvas;
}

/** One picture on a canvas; what is clear shows a board of two greys. */
export function put(picture, canvas, view, scale) {
  [canvas.width, canvas.height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const pen = canvas.getContext('2d');
  if (view === 'Cut-out') {
    const style = getComputedStyle(document.documentElement);
    const step = Math.max(4, Math.round(Math.max(canvas.width, canvas.height) / 40));
    for (let y = 0; y < canvas.height; y += step) {
      for (let x = 0; x < canvas.width; x += step) {
        pen.fillStyle = style.getPropertyValue((x + y) / step % 2 ? '--check-2' : '--check-1');
        pen.fillRect(x, y, step, step);
      }
    }
  }
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
}

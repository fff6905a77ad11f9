// The demonstration: a picture in, its mask, cut-out and overlay out, and what that cost. Everything is fetched from
// the address this page came from.
import { KEPT, classes, costs } from './figures.mjs';
import { Trouble, VIEWS, photo, pixels, put } from './pictures.mjs';
import { alphaAt, maskAt } from './pixels.mjs';

const el = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const SHOWN = 1280; // the longer side of what is painted; files are saved at the photo's own size
const REPEATS = 12; // runs of a still photo, so that the figure is not the first one's

const state = { files: [], file: null, runtime: '', threads: 1, view: 'Overlay', frames: new Map(), source: null, result: null, runs: [], token: 0 };

function say(text) {
  el('message').textContent = text;
  el('message').hidden = !text;
}

function busy(text) {
  el('busy').textContent = text;
  el('busy').hidden = !text;
}

/** Whatever goes wrong in `work` is said in words; nothing is only in the console. */
async function told(work) {
  try {
    await work();
  } catch (error) {
    console.error(error);
    busy('');
    document.body.dataset.state = 'failed';
    say(error instanceof Trouble ? error.message : `Something went wrong: ${error?.message ?? error}`);
  }
}

/** What is at `address`, or words for a server that has ended: a browser's own are no help. */
async function served(address, what) {
  const reply = await fetch(address).catch(() => null);
  if (!reply?.ok) throw new Trouble(`${what} could not be read; is the command that serves this page still running?`);
  return reply;
}

// --- what can be chosen

async function listed() {
  state.files = (await (await served('/artifacts.json', 'The list of networks')).json()).artifacts;
  const processors = navigator.hardwareConcurrency || 1;
  state.counts = globalThis.crossOriginIsolated ? [...new Set([1, 2, 4, processors])].filter((n) => n <= processors).sort((a, b) => a - b) : [1];
  state.view = VIEWS.find((view) => view === asked.get('view')) ?? 'Overlay';
  state.threads = state.counts.includes(Number(asked.get('threads'))) ? Number(asked.get('threads')) : 1;
  const names = networks();
  const network = names.includes(asked.get('network')) ? asked.get('network') : names[0];
  const offered = state.files.filter((file) => file.network === network);
  state.file = offered.find((file) => file.runtime === asked.get('runtime')) ?? offered[0];
}

const networks = () => [...new Set(state.files.map((file) => file.network))];

function tabs(box, options, current, choose) {
  box.replaceChildren(...options.map(({ name, value = name, off = false, why = '' }) => {
    const button = document.createElement('button');
    button.textContent = name;
    button.disabled = off;
    button.title = why;
    button.setAttribute('aria-pressed', String(value === current));
    button.onclick = () => told(() => choose(value));
    return button;
  }));
}

function controls() {
  el('network').replaceChildren(...networks().map((name) => new Option(name, name, false, name === state.file.network)));
  const of = (runtime) => state.files.find((file) => file.network === state.file.network && file.runtime === runtime);
  const names = [...new Set(state.files.map((file) => file.runtime))];
  tabs(el('runtimes'), names.map((name) => ({ name, off: !of(name), why: of(name) ? of(name).file : 'no file of this network for it is served' })), state.file.runtime, (name) => choose({ file: of(name) }));
  tabs(el('threads'), state.counts.map((count) => ({ name: String(count), value: count })), state.threads, (threads) => choose({ threads }));
  views();
}

/** The four views as small pictures, which are the buttons that choose one. */
function views() {
  const box = el('views');
  if (!box.children.length) {
    box.replaceChildren(...VIEWS.map((view) => {
      const button = document.createElement('button');
      button.append(document.createElement('canvas'), view);
      button.onclick = () => told(() => { state.view = view; views(); paint(); });
      return button;
    }));
  }
  VIEWS.forEach((view, i) => box.children[i].setAttribute('aria-pressed', String(view === state.view)));
}

async function choose(change) {
  Object.assign(state, change);
  state.runs = [];
  controls();
  if (state.source && !state.source.live) await still(state.source);
}

// --- running

/** The chosen file in the chosen runtime, started once and kept. */
async function opened() {
  const { file, threads } = state;
  const key = `${file.url} ${threads}`;
  if (!state.frames.has(key)) state.frames.set(key, begun(file, threads));
  try {
    return await state.frames.get(key);
  } catch (error) {
    state.frames.delete(key);
    throw new Trouble(`${file.runtime} could not open ${file.file}: ${error?.message ?? error}`);
  }
}

async function begun(file, threads) {
  busy(`Starting ${file.runtime} …`);
  const frame = document.createElement('iframe');
  frame.hidden = true;
  frame.src = 'frame.html';
  const loaded = new Promise((resolve, reject) => { frame.onload = resolve; frame.onerror = reject; });
  document.body.append(frame);
  await loaded;
  if (!frame.contentWindow.lightseg) throw new Error('its page could not be loaded');
  return frame.contentWindow.lightseg(file, file.runtime, threads);
}

/** One picture through the network; the result is kept for painting and saving. */
async function seen(source, network, token) {
  const { planes, size, prepare, run } = await network.look(source.rgba, source.size);
  if (token !== state.token) return false;
  const scale = Math.min(1, SHOWN / Math.max(...source.size));
  const at = source.size.map((side) => Math.max(1, Math.round(side * scale)));
  const begin = performance.now();
  const kept = state.file.foreground;
  const [alpha, mask] = [alphaAt({ planes, size }, at, kept), maskAt({ planes, size }, at)];
  const read = performance.now() - begin;
  state.result = { planes, size, at, alpha, mask, source };
  state.runs.push({ prepare, run, read });
  state.runs = state.runs.slice(-KEPT);
  return true;
}

async function still(source) {
  const token = (state.token += 1);
  document.body.dataset.state = 'running';
  say('');
  el('camera').textContent = 'Use the camera';
  state.source = source;
  const network = await opened();
  for (let i = 0; i < REPEATS; i += 1) {
    busy(i ? '' : 'Looking …');
    if (i < 2) await new Promise((resolve) => { setTimeout(resolve, 20); }); // the words above are to be seen
    if (token !== state.token || !(await seen(source, network, token))) return;
    if (i === 0) { source.first = state.runs.pop().run; paint(); }
    costs(network, { ...state, first: source.first });
  }
  busy('');
  document.body.dataset.state = 'done';
}

async function live() {
  const token = (state.token += 1);
  say('');
  busy('Waiting for the camera …');
  const media = navigator.mediaDevices;
  if (!media) throw new Trouble('This browser gives no camera to this page; choose a photo instead.');
  let stream;
  try {
    stream = await media.getUserMedia({ video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: 'user' } });
  } catch (error) {
    const why = { NotAllowedError: 'it was not allowed', NotFoundError: 'there is none', NotReadableError: 'another program holds it' }[error.name] ?? error.message;
    throw new Trouble(`The camera cannot be used: ${why}. Choose a photo instead.`);
  }
  const video = el('video');
  video.srcObject = stream;
  await video.play();
  el('camera').textContent = 'Stop the camera';
  state.runs = [];
  const pen = new OffscreenCanvas(video.videoWidth, video.videoHeight).getContext('2d', { willReadFrequently: true });
  const source = { live: true, stream, name: 'camera' };
  state.source = source;
  try {
    while (token === state.token) {
      const network = await opened();
      busy('');
      pen.drawImage(video, 0, 0);
      source.picture = pen.canvas;
      source.size = [pen.canvas.height, pen.canvas.width];
      source.rgba = pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height).data;
      if (await seen(source, network, token)) { paint(); costs(network, state); }
      await new Promise((resolve) => { requestAnimationFrame(resolve); });
    }
  } finally {
    stream.getTracks().forEach((track) => track.stop());
  }
}

// --- pictures

async function take(blob, name) {
  busy('Reading the picture …');
  const source = await photo(blob, name);
  state.runs = [];
  await still(source);
}

async function sample() {
  await take(await (await served('/sample', 'The sample photo')).blob(), 'sample.jpg');
}

function paint() {
  if (!state.result) return;
  const painted = VIEWS.map((view) => pixels(view, state.result, state.file.colours));
  put(painted[VIEWS.indexOf(state.view)], el('large'), state.view, 1);
  VIEWS.forEach((view, i) => put(painted[i], el('views').children[i].firstChild, view, Math.min(1, 240 / Math.max(painted[i].width, painted[i].height))));
  el('screen').classList.add('filled');
  el('large').setAttribute('aria-label', `${state.view} of ${state.result.source.name}`);
  el('save').disabled = false;
  classes(state.file, state.result.mask);
}

async function save() {
  const { planes, size, source } = state.result;
  const whole = { at: source.size, alpha: alphaAt({ planes, size }, source.size, state.file.foreground), mask: new Uint8Array(source.size[0] * source.size[1]), source };
  const blob = await pixels('Cut-out', whole, state.file.colours).convertToBlob({ type: 'image/png' });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${source.name.replace(/\.[^.]*$/, '')}_cutout.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- hands

el('choose').onclick = () => el('file').click();
el('file').onchange = () => told(async () => { const [file] = el('file').files; if (file) await take(file, file.name); el('file').value = ''; });
el('sample').onclick = () => told(sample);
el('save').onclick = () => told(save);
el('network').onchange = () => told(() => {
  const offered = state.files.filter((file) => file.network === el('network').value);
  return choose({ file: offered.find((file) => file.runtime === state.file.runtime) ?? offered[0] });
});
el('camera').onclick = () => told(async () => {
  if (!state.source?.live) return live();
  state.token += 1;
  state.source = state.source.picture ? { ...state.source, live: false } : null; // its last picture stays, for other networks
  el('camera').textContent = 'Use the camera';
});
for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    el('screen').classList.toggle('over', kind === 'dragenter' || kind === 'dragover');
    if (kind !== 'drop') return;
    const [file] = event.dataTransfer.files;
    told(async () => { if (!file) throw new Trouble('That was no file; drop a photo from your disk.'); await take(file, file.name); });
  });
}
document.addEventListener('paste', (event) => { const [file] = event.clipboardData.files; if (file) told(() => take(file, file.name)); });

told(async () => {
  await listed();
  controls();
  await sample();
});

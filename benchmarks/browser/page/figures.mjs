// Figures beside the picture: what it cost, what ran, which classes there are.

const el = (id) => document.getElementById(id);
export const KEPT = 60; // runs in the small chart

const middle = (values) => { const sorted = [...values].sort((a, b) => a - b); return sorted[sorted.length >> 1]; };
const ms = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));

function rows(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value, dot]) => {
    const [term, text] = [document.createElement('dt'), document.createElement('dd')];
    if (dot) { const mark = document.createElement('i'); mark.className = `dot ${dot}`; term.append(mark); }
    term.append(name);
    text.textContent = value;
    return [term, text];
  }));
}

/** What the last `runs` cost, part by part, and what ran: `file` in `network`, after a `first` run. */
export function costs(network, { runs, file, threads, first }) {
  if (!runs.length) return;
  const [prepare, run, read] = ['prepare', 'run', 'read'].map((part) => middle(runs.map((one) => one[part])));
  el('run').textContent = ms(run);
  el('what').textContent = `the network, median of ${runs.length} runs`;
  const total = prepare + run + read;
  el('parts').replaceChildren(...[prepare, run, read].map((part) => { const bar = document.createElement('i'); bar.style.width = `${(100 * part) / total}%`; return bar; }));
  rows(el('cost'), [
    ['resize and normalise', `${ms(prepare)} ms`, 'p1'],
    ['network', `${ms(run)} ms`, 'p2'],
    ['enlarge to the picture', `${ms(read)} ms`, 'p3'],
    ['photo to mask', `${ms(total)} ms`],
    ['that is', `${(1000 / total).toFixed(total < 100 ? 0 : 1)} a second`],
    ['load', `${ms(network.loaded)} ms`],
    ...(first ? [['first run', `${ms(first)} ms`]] : []),
  ]);
  spark(runs.map((one) => one.run));
  const details = network.details();
  rows(el('facts'), [
    ['file', `${file.file}, ${(file.bytes / 1e3).toFixed(0)} kB`],
    ['input', `${file.contract.size.join('×')} ${file.contract.preprocess.order}, ${file.contract.takes} ${file.contract.dtype}`],
    ['runtime', `${file.runtime} ${details.version ?? file.version}`],
    ['WebAssembly', `${details.simd ? 'SIMD' : 'no SIMD'}, ${threads} thread${threads > 1 ? 's' : ''} of ${details.processors}`],
    ['isolated', details.isolated ? 'yes' : 'no: threads are off'],
    ['weights', file.weights],
  ]);
}

function spark(values) {
  const top = Math.max(...values);
  const step = 240 / KEPT;
  el('spark').innerHTML = values.map((value, i) => {
    const height = Math.max(1, (46 * value) / top);
    return `<rect x="${((KEPT - values.length + i) * step).toFixed(1)}" y="${(48 - height).toFixed(1)}" width="${(step - 1).toFixed(1)}" height="${height.toFixed(1)}" rx="1"/>`;
  }).join('');
}

/** Which of a file's classes cover how much of the `mask`, the largest first. */
export function classes({ names, colours }, mask) {
  const counts = names.map(() => 0);
  for (const one of mask) counts[one] += 1;
  const all = mask.length;
  const found = names.map((name, i) => ({ name, colour: colours[i], share: counts[i] / all })).filter((one, i) => one.share > 0.0005 && (names.length > 2 || i === 1));
  found.sort((a, b) => b.share - a.share);
  el('classes').replaceChildren(...(found.length ? found.slice(0, 8) : [{ name: names.length === 2 ? names[1] : 'nothing', colour: [128, 128, 128], share: 0 }]).map(({ name, colour, share }) => {
    const row = document.createElement('div');
    row.className = 'class';
    row.innerHTML = '<span></span><b></b><div class="bar"><i></i></div>';
    row.children[0].textContent = name;
    row.children[1].textContent = `${(100 * share).toFixed(1)} %`;
    Object.assign(row.querySelector('i').style, { width: `${100 * share}%`, background: `rgb(${colour.join()})` });
    return row;
  }));
}

// Reads the stream of pictures and shows them. What comes from the service is only ever
// written as text.
'use strict';

const byId = (id) => document.getElementById(id);
const HISTORY = 60; // pictures, one a second
const RETRY_MS = 2000;
const SILENCE_MS = 6000; // the stream says something every second
const STATE_ORDER = ['restarting', 'stopping', 'ended', 'unknown', 'running'];

const view = {
  sort: 'name',
  descending: false,
  filter: '',
  focus: null, // the key of the row that Tab leads to
  open: new Set(),
  paused: false,
  picture: null,
};
const history = { sum: [], modules: new Map(), routes: new Map() };
const rows = { modules: new Map(), routes: new Map() };
let secret = '';

// === the stream ===

async function follow() {
  for (;;) {
    if (document.hidden) {
      await new Promise((wake) => document.addEventListener('visibilitychange', wake, { once: true }));
      continue;
    }
    const end = await read().catch(() => 'lost');
    if (end === 'hidden') continue;
    if (end === 'locked') {
      setLink('locked');
      await askForKey();
      setLink('connecting');
      continue;
    }
    setLink(end);
    await new Promise((wake) => setTimeout(wake, RETRY_MS));
  }
}

// Resolves with why the stream ended: lost, draining, locked, crowded or hidden.
async function read() {
  // No header can have it, so no service asks for it.
  if (/[^\x20-\x7e]/.test(secret)) return 'locked';
  const abort = new AbortController();
  let alarm;
  const expect = () => {
    clearTimeout(alarm);
    alarm = setTimeout(() => abort.abort(), SILENCE_MS);
  };
  const hide = () => document.hidden && abort.abort('hidden');
  document.addEventListener('visibilitychange', hide);
  try {
    expect();
    const headers = secret ? { authorization: `Bearer ${secret}` } : {};
    const answer = await fetch('_spark/events', { headers, cache: 'no-store', signal: abort.signal });
    if (answer.status === 401 || answer.status === 403) return 'locked';
    if (answer.status === 503) return view.picture ? 'draining' : 'crowded';
    if (!answer.ok) return 'lost';
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return 'lost';
      expect();
      const events = (text + value).split('\n\n');
      text = events.pop();
      for (const event of events) {
        if (event.startsWith('event: draining')) return 'draining';
        if (event.startsWith('data: ')) receive(JSON.parse(event.slice(6)));
      }
    }
  } catch (error) {
    if (abort.signal.aborted && abort.signal.reason === 'hidden') return 'hidden';
    throw error;
  } finally {
    clearTimeout(alarm);
    document.removeEventListener('visibilitychange', hide);
    abort.abort();
  }
}

function receive(picture) {
  setLink('live');
  remember(picture);
  if (view.paused) return;
  view.picture = picture;
  document.body.classList.remove('blank');
  show(picture);
}

function remember(picture) {
  const add = (list, entry) => {
    list.push(entry);
    if (list.length > HISTORY) list.shift();
  };
  const follow = (map, lines, entry) => {
    const seen = new Set();
    for (const line of keyed(lines)) {
      seen.add(line.key);
      if (!map.has(line.key)) map.set(line.key, []);
      add(map.get(line.key), entry(line));
    }
    for (const key of map.keys()) if (!seen.has(key)) map.delete(key);
  };
  follow(history.modules, picture.modules, (line) => ({ rate: line.rate, depth: line.depth }));
  follow(history.routes, picture.routes, (line) => ({ rate: line.rate }));
  const rates = picture.modules.map((line) => line.rate).filter((rate) => rate !== null);
  add(history.sum, { rate: rates.length ? sum(rates, (rate) => rate) : null });
}

// Modules may share a name; the first of a name has it as its key. Nobody's key is another one's name.
function keyed(lines) {
  const taken = new Set(lines.map((line) => line.name));
  const named = new Set();
  return lines.map((line) => {
    let key = line.name;
    if (named.has(key)) for (let nth = 2; taken.has(key); nth += 1) key = `${line.name} #${nth}`;
    named.add(line.name);
    taken.add(key);
    return { ...line, key };
  });
}

function askForKey() {
  const form = byId('key');
  form.hidden = false;
  if (secret) write(form.querySelector('label'), 'The service does not accept this key.');
  byId('key-text').focus();
  return new Promise((entered) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      secret = byId('key-text').value;
      byId('key-text').value = '';
      form.hidden = true;
      entered();
    };
  });
}

// === what is shown ===

function setLink(link) {
  const words = {
    connecting: 'Connecting',
    live: 'Live',
    lost: 'Disconnected',
    draining: 'Draining',
    locked: 'Locked',
    crowded: 'Unavailable',
  };
  if (document.body.dataset.link !== link) {
    document.body.dataset.link = link;
    write(byId('link-text'), words[link]);
    if (link !== 'live') setBanner(link);
  }
}

function setBanner(link, picture) {
  const banner = byId('banner');
  const [kind, text] = bannerOf(link, picture);
  banner.hidden = !text;
  banner.className = `banner ${kind}`;
  write(banner, text);
}

function bannerOf(link, picture) {
  if (link === 'lost') return ['bad', 'The service does not answer. These are its last numbers; trying again every two seconds.'];
  if (link === 'draining') return ['warn', 'The server is shutting down: it finishes what it has and takes nothing new. These are its last numbers.'];
  if (link === 'crowded') return ['warn', 'Nobody can look right now: there are too many viewers, or the server is shutting down. Trying again every two seconds.'];
  if (!picture) return ['', ''];
  const draining = picture.servers.filter((server) => server.draining).map((server) => server.name);
  if (draining.length) return ['warn', `Draining: ${listed(draining)}. Requests under way are finished, new ones are refused.`];
  if (picture.ready) return ['', ''];
  const reasons = [];
  if (picture.unready_modules.length) reasons.push(`not running: ${listed(picture.unready_modules)}`);
  if (picture.unready_checks.length) reasons.push(`failing: ${listed(picture.unready_checks)}`);
  return ['warn', `Not ready (${reasons.join('; ')}). Balancers are told to send no requests here.`];
}

function show(picture) {
  setBanner('live', picture);
  write(byId('service'), picture.service);
  const title = `${picture.service} · Spark`;
  if (document.title !== title) document.title = title;
  write(byId('about'), [picture.version, `up ${span(picture.up_seconds)}`].filter(Boolean).join(' · '));
  showSummary(picture);
  showModules(keyed(picture.modules), picture.hidden);
  showRoutes(keyed(picture.routes));
}

function showSummary({ modules, routes, servers }) {
  const known = modules.some((line) => line.rate !== null);
  write(byId('sum-rate'), known ? rate(sum(modules, (line) => line.rate ?? 0)) : '–');
  draw(byId('sum-spark'), history.sum.map((entry) => entry.rate));
  write(byId('sum-depth'), count(sum(modules, (line) => line.depth)));
  const fullest = modules.reduce((most, line) => (fill(line) > fill(most) ? line : most), { depth: 0, capacity: 1 });
  write(byId('sum-depth-note'), fill(fullest) >= 0.01 ? `fullest: ${fullest.name}, ${percent(fill(fullest))}` : 'queues are empty');
  write(byId('sum-flight'), count(sum(routes, (line) => line.in_flight)));
  const perSecond = sum(routes, (line) => line.rate ?? 0);
  write(byId('sum-flight-note'), routes.length ? `${rate(perSecond)}/s answered` : 'no routes');
  write(byId('sum-open'), servers.length ? count(sum(servers, (server) => server.open)) : '–');
  const accepted = sum(servers, (server) => server.connections);
  write(byId('sum-open-note'), servers.length ? `${count(accepted)} so far` : 'no server is watched');
  const running = modules.filter((line) => line.state === 'running').length;
  write(byId('sum-modules'), `${running} / ${modules.length}`);
  const restarts = sum(modules, (line) => line.restarts);
  write(byId('sum-modules-note'), restarts ? plural(restarts, 'restart') : 'no restarts');
  const panics = sum(modules, (line) => line.panics);
  write(byId('sum-panics'), count(panics));
  const panicked = modules.filter((line) => line.panics > 0);
  write(byId('sum-panics-note'), panics ? `in ${panicked.length === 1 ? panicked[0].name : plural(panicked.length, 'module')}` : 'none so far');
}

function showModules(lines, hidden) {
  for (const line of lines) fillModule(rowOf(rows.modules, 'module-row', line.key), line);
  forget(rows.modules, lines);
  const shown = lines.filter(passes);
  arrange(shown);
  const filtered = shown.length !== lines.length;
  write(byId('modules-count'), filtered ? `${shown.length} of ${lines.length}` : String(lines.length + hidden));
  const empty = byId('modules-empty');
  empty.hidden = shown.length > 0;
  write(empty, lines.length ? `No module matches “${view.filter}”.` : 'No modules yet. They appear here once they are watched.');
  byId('modules').hidden = shown.length === 0;
}

function fillModule(row, line) {
  row.line = line;
  const at = (name) => row.querySelector(name);
  write(at('.name'), line.key);
  row.dataset.state = line.state;
  write(at('.state span'), line.state);
  const past = history.modules.get(line.key) ?? [];
  number(at('.rate'), line.rate === null ? '–' : rate(line.rate), line.rate === 0);
  draw(at('.rate .spark'), past.map((entry) => entry.rate));
  number(at('.depth'), count(line.depth), line.depth === 0);
  at('.depth').dataset.full = fill(line) >= 0.9 ? 'full' : fill(line) >= 0.5 ? 'half' : '';
  at('.depth').title = `${count(line.depth)} of ${count(line.capacity)} places taken`;
  draw(at('.depth .spark'), past.map((entry) => entry.depth), Math.max(4, line.capacity / 8));
  number(at('.high'), count(line.high_water), line.high_water === 0);
  for (const [name, micros] of [['.p50', line.latency?.p50], ['.p99', line.latency?.p99]]) {
    latency(at(name), micros);
    at(name).classList.toggle('of-routes', micros !== undefined && line.latency_of === 'routes');
  }
  number(at('.panics'), count(line.panics), line.panics === 0);
  number(at('.restarts'), count(line.restarts), line.restarts === 0);
  const current = line.current;
  write(at('.now .what'), current ? current.name + (current.others ? ` +${current.others}` : '') : '');
  write(at('.now .age'), current ? duration(current.age_micros) : '');
  at('.now').classList.toggle('long', (current?.age_micros ?? 0) >= 1e6);
  if (row.more) fillMore(row.more, line);
}

function fillMore(more, line) {
  const latencies = line.latency ? ['p50', 'p95', 'p99'].map((p) => [p, duration(line.latency[p])]) : [];
  const counts = ['handled', 'failed', 'rejected', 'expired', 'abandoned', 'interrupted', 'dropped', 'conflated', 'undelivered'];
  const entries = [['capacity', count(line.capacity)], ...counts.map((name) => [name, count(line[name])]), ...latencies];
  const list = more.querySelector('dl');
  const known = new Map(Array.from(list.children, (pair) => [pair.firstChild.textContent, pair]));
  for (const [name, value] of entries) {
    let pair = known.get(name);
    if (!pair) {
      pair = document.createElement('div');
      pair.append(document.createElement('dt'), document.createElement('dd'));
      write(pair.firstChild, name);
      list.append(pair);
    }
    known.delete(name);
    write(pair.lastChild, value);
  }
  for (const pair of known.values()) pair.remove();
}

function showRoutes(lines) {
  byId('routes-block').hidden = lines.length === 0;
  write(byId('routes-count'), String(lines.length));
  const body = byId('routes').tBodies[0];
  lines.sort((one, other) => one.key.localeCompare(other.key));
  for (const line of lines) {
    const row = rowOf(rows.routes, 'route-row', line.key);
    const at = (name) => row.querySelector(name);
    write(at('.name'), line.key);
    number(at('.rate'), line.rate === null ? '–' : rate(line.rate), line.rate === 0);
    draw(at('.rate .spark'), (history.routes.get(line.key) ?? []).map((entry) => entry.rate));
    number(at('.flight'), count(line.in_flight), line.in_flight === 0);
    latency(at('.p50'), line.latency?.p50);
    latency(at('.p99'), line.latency?.p99);
    for (const [name, index] of [['.ok', 1], ['.client', 3], ['.server', 4]]) {
      number(at(name), count(line.classes[index]), line.classes[index] === 0);
    }
    number(at('.left'), count(line.abandoned), line.abandoned === 0);
  }
  forget(rows.routes, lines);
  place(body, lines.map((line) => rows.routes.get(line.key)));
}

// === rows: order, filter, focus ===

function rowOf(known, template, key) {
  let row = known.get(key);
  if (!row) {
    row = byId(template).content.firstElementChild.cloneNode(true);
    row.key = key;
    known.set(key, row);
  }
  return row;
}

function forget(known, lines) {
  const keys = new Set(lines.map((line) => line.key));
  for (const [key, row] of known) {
    if (keys.has(key)) continue;
    row.more?.remove();
    row.remove();
    known.delete(key);
  }
}

function passes(line) {
  const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const text = `${line.key} ${line.state} ${line.current?.name ?? ''}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function arrange(lines) {
  const body = byId('modules').tBodies[0];
  // Rows do not run away from under whoever reads one; the next choice of an order moves them.
  const hold = !view.resort && body.contains(document.activeElement) && document.activeElement !== body;
  view.resort = false;
  let order = lines.map((line) => rows.modules.get(line.key));
  if (hold) {
    const places = new Map(Array.from(body.rows, (row, index) => [row, index]));
    order.sort((one, other) => (places.get(one) ?? Infinity) - (places.get(other) ?? Infinity));
  } else {
    order.sort((one, other) => compare(one.line, other.line));
  }
  place(body, order.flatMap((row) => (row.more ? [row, row.more] : [row])));
  if (!order.some((row) => row.key === view.focus)) view.focus = order[0]?.key ?? null;
  for (const row of order) row.tabIndex = row.key === view.focus ? 0 : -1;
}

function compare(one, other) {
  const [a, b] = [sortKey(one), sortKey(other)];
  const ascending = typeof a === 'string' ? a.localeCompare(b) : a - b;
  return (view.descending ? -ascending : ascending) || one.key.localeCompare(other.key);
}

function sortKey(line) {
  switch (view.sort) {
    case 'name': return line.key;
    case 'state': return STATE_ORDER.indexOf(line.state);
    case 'p50': case 'p99': return line.latency?.[view.sort] ?? -1;
    case 'age': return line.current?.age_micros ?? -1;
    default: return line[view.sort] ?? -1;
  }
}

// Puts `order` into `body`, moving only what is out of place, and keeps the focus.
function place(body, order) {
  const focused = document.activeElement;
  const wanted = new Set(order);
  for (const row of Array.from(body.children)) if (!wanted.has(row)) row.remove();
  order.forEach((row, index) => {
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
  if (focused !== document.activeElement && wanted.has(focused)) focused.focus({ preventScroll: true });
}

function sortBy(key) {
  // Numbers are looked at from the largest, texts from the first.
  const first = key !== 'name' && key !== 'state';
  view.descending = view.sort === key ? !view.descending : first;
  view.sort = key;
  view.resort = true;
  view.focus = null;
  for (const head of document.querySelectorAll('#modules th[data-key]')) {
    if (head.dataset.key === key) head.setAttribute('aria-sort', view.descending ? 'descending' : 'ascending');
    else head.removeAttribute('aria-sort');
  }
  again();
}

function setFilter(text) {
  view.filter = text;
  view.resort = true;
  view.focus = null;
  again();
}

function again() {
  if (view.picture) showModules(keyed(view.picture.modules), view.picture.hidden);
}

function toggle(row) {
  const isOpen = !row.more;
  row.setAttribute('aria-expanded', String(isOpen));
  if (isOpen) {
    row.more = byId('module-more').content.firstElementChild.cloneNode(true);
    fillMore(row.more, row.line);
    row.after(row.more);
  } else {
    row.more.remove();
    row.more = null;
  }
}

function moveFocus(row) {
  if (!row) return;
  view.focus = row.key;
  for (const other of rows.modules.values()) other.tabIndex = other === row ? 0 : -1;
  row.focus();
}

function listen() {
  const filter = byId('filter');
  const body = byId('modules').tBodies[0];
  filter.addEventListener('input', () => setFilter(filter.value));
  filter.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      filter.value = '';
      setFilter('');
      filter.blur();
    } else if (event.key === 'ArrowDown' || event.key === 'Enter') {
      event.preventDefault();
      moveFocus(rows.modules.get(view.focus));
    }
  });
  for (const head of document.querySelectorAll('#modules th[data-key]')) {
    head.firstElementChild.addEventListener('click', () => sortBy(head.dataset.key));
  }
  body.addEventListener('click', (event) => {
    const row = event.target.closest('tr');
    if (!row?.key || String(getSelection())) return;
    moveFocus(row);
    toggle(row);
  });
  body.addEventListener('keydown', (event) => {
    const row = event.target.closest('tr');
    if (!row?.key || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = Array.from(body.rows).filter((other) => other.key);
    const index = all.indexOf(row);
    const moves = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: all.length - 1 };
    if (event.key in moves) {
      event.preventDefault();
      moveFocus(all[moves[event.key]]);
    } else if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      toggle(row);
    } else if (event.key === 'Escape') {
      row.blur();
    }
  });
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest?.('input, textarea, select');
    if (event.key !== '/' || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    filter.focus();
    filter.select();
  });
  byId('pause').addEventListener('click', () => {
    view.paused = !view.paused;
    byId('pause').setAttribute('aria-pressed', String(view.paused));
    document.body.classList.toggle('paused', view.paused);
  });
}

// === small things ===

// Touches the document only for what has changed. Characters that would change how others are
// shown, such as those that turn the direction of text, are shown as what they are.
function write(element, raw) {
  const text = raw.replace(/[\p{Cc}\p{Cf}]/gu, '\ufffd');
  if (element.textContent !== text) element.textContent = text;
}

function number(cell, text, isQuiet) {
  write(cell.querySelector('.v'), text);
  cell.classList.toggle('zero', isQuiet || text === '–');
}

function latency(cell, micros) {
  number(cell, micros === undefined ? '–' : duration(micros), false);
}

// A line over the last minute, from the right. What is below `least` is drawn as little.
function draw(svg, all, least = 1) {
  const values = all.filter((value) => value !== null);
  const most = Math.max(least, ...values);
  const x = (index) => (100 - ((values.length - 1 - index) * 100) / (HISTORY - 1)).toFixed(2);
  const y = (value) => (22 - (value / most) * 20).toFixed(2);
  const line = values.map((value, index) => `${index ? 'L' : 'M'}${x(index)} ${y(value)}`).join('');
  const [area, stroke] = svg.children;
  stroke.setAttribute('d', line);
  area.setAttribute('d', values.length > 1 ? `${line}L100 24L${x(0)} 24Z` : '');
}

function sum(lines, of) {
  return lines.reduce((total, line) => total + of(line), 0);
}

function fill(line) {
  return line.capacity ? line.depth / line.capacity : 0;
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

function count(value) {
  return value < 1e6 ? whole.format(value) : short(value);
}

function rate(value) {
  if (value >= 1e5) return short(value);
  return value > 0 && value < 10 ? value.toFixed(1) : whole.format(value);
}

function short(value) {
  const [unit, name] = [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']].find(([unit]) => value >= unit);
  return (value / unit).toPrecision(3) + name;
}

function percent(share) {
  return `${Math.round(share * 100)} %`;
}

function duration(micros) {
  if (micros < 1e3) return `${micros} µs`;
  if (micros < 1e6) return `${digits(micros / 1e3)} ms`;
  if (micros < 120e6) return `${digits(micros / 1e6)} s`;
  return span(Math.floor(micros / 1e6));
}

function digits(value) {
  return value < 9.95 ? value.toFixed(1) : whole.format(value);
}

function span(seconds) {
  const units = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const index = units.findIndex(([unit]) => seconds >= unit);
  if (index < 0) return '0 s';
  const [unit, name] = units[index];
  const rest = units[index + 1] && Math.floor((seconds % unit) / units[index + 1][0]);
  return `${Math.floor(seconds / unit)} ${name}` + (rest ? ` ${rest} ${units[index + 1][1]}` : '');
}

function listed(names) {
  const more = names.length - 5;
  return names.slice(0, 5).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function plural(number, noun) {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

listen();
follow();

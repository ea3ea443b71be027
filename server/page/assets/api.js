// The server's API, the same that every other client uses.

// The folder that the page is in: the server may live below a path.
const root = new URL('../../', import.meta.url);

export const at = (path) => new URL(path.replace(/^\//, ''), root).href;

// Refusal is an answer that is not a success, in the server's own words.
export class Refusal extends Error {
  constructor(status, body, retryAfter = 0) {
    super(body?.detail ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = body?.code ?? '';
    this.retryAfter = retryAfter;
  }
}

export const unreachable = () => new Refusal(0, { detail: 'The server cannot be reached. Is the network there?', code: 'network' });

// session tells the page when a session has ended.
export const session = new EventTarget();

export function refusalOf(status, text, retryAfter) {
  let body = null;
  try { body = JSON.parse(text); } catch { /* not ours, so it says nothing */ }
  if (status === 401) session.dispatchEvent(new Event('ended'));
  return new Refusal(status, body, Number(retryAfter) || 0);
}

async function ask(method, path, { body, headers = {}, signal } = {}) {
  const init = { method, headers: { Accept: 'application/json', ...headers }, signal, credentials: 'same-origin', redirect: 'error' };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers['Content-Type'] = 'application/json';
  }
  let answer;
  try {
    answer = await fetch(at(path), init);
  } catch (e) {
    if (e.name === 'AbortError') throw e;
    throw unreachable();
  }
  if (!answer.ok && answer.status !== 304) throw refusalOf(answer.status, await answer.text(), answer.headers.get('Retry-After'));
  return answer;
}

export const get = async (path, options) => (await ask('GET', path, options)).json();
export const post = async (path, body, options) => (await ask('POST', path, { ...options, body })).json();
export const put = async (path, body) => (await ask('PUT', path, { body })).json();
export const remove = async (path) => (await ask('DELETE', path)).json();

// pages gives a list page by page. version.tag is the ETag that the list had
// when it was read last: while it has it still, there are no pages.
export async function* pages(path, { limit = 1000, signal, version = {} } = {}) {
  const [where, given] = path.split('?');
  let query = new URLSearchParams(given);
  query.set('limit', limit);
  for (let first = true; ; first = false) {
    const answer = await ask('GET', `${where}?${query}`, { signal, headers: first && version.tag ? { 'If-None-Match': version.tag } : {} });
    if (answer.status === 304) return;
    if (first) version.tag = answer.headers.get('ETag');
    yield await answer.json();
    const next = /<[^>?]*\?([^>]*)>;\s*rel="next"/.exec(answer.headers.get('Link') ?? '');
    if (!next) return;
    query = new URLSearchParams(next[1]);
  }
}

export async function all(path, options) {
  const list = [];
  for await (const page of pages(path, options)) list.push(...page);
  return list;
}

// bytesOf fetches a file, or its beginning.
export async function bytesOf(path, { first, signal } = {}) {
  const headers = { Accept: 'application/octet-stream' };
  if (first) headers.Range = `bytes=0-${first - 1}`;
  const answer = await ask('GET', path, { headers, signal });
  const size = Number(/\/(\d+)$/.exec(answer.headers.get('Content-Range') ?? '')?.[1] ?? 0);
  const blob = await answer.blob();
  return { blob, cut: size > blob.size };
}

// lines reads an answer of JSON lines as they come.
export async function* lines(path, body, signal) {
  const answer = await ask('POST', path, { body, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? '';
    const complete = rest.split('\n');
    rest = complete.pop();
    for (const line of complete) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

// Where things are.
const seg = encodeURIComponent;

export function placeOf(kind, id, space) {
  const base = { product: `/catalog/spaces/${seg(space)}/products/${seg(id)}`, ticket: `/issues/tickets/${seg(id)}`, meeting: `/meetings/${seg(id)}` }[kind];
  const file = (a) => ({ product: `/catalog/attachments/${a}`, ticket: `/issues/attachments/${a}`, meeting: `/meetings/${seg(id)}/attachments/${a}` })[kind];
  return {
    kind, id, space,
    list: `${base}/attachments`,
    file,
    download: (a) => file(a) + (kind === 'product' ? '/download' : ''),
    hash: `#/spaces/${seg(space)}/${kind}s/${seg(id)}`,
    record: { product: `/directory/spaces/${seg(space)}/products/${seg(id)}`, ticket: `/directory/tickets/${seg(id)}`, meeting: `/directory/meetings/${seg(id)}` }[kind],
  };
}

// link signs an address for a file. It is taken relative to this page: another
// name of the same server will do.
export async function link(place, id, options) {
  const made = await post(`${place.file(id)}/links`, options);
  const url = new URL(made.download_url);
  const ours = /\/(files\/[0-9a-f-]{36})$/.exec(url.pathname);
  return { ...made, here: ours ? at(ours[1] + url.search) : made.download_url };
}

// reason says why something cannot be done with a file.
export const reason = (e, file) => (e.status === 404 ? `${file.file_name} is not here any more: somebody has deleted it.` : e.message);

// download has the browser fetch a file, once the server is known to give it:
// what comes of it then, the browser does not tell the page.
export async function download(place, id) {
  try {
    await ask('HEAD', place.download(id), { headers: { Accept: 'application/octet-stream' } });
  } catch (e) {
    if (e.status) await bytesOf(place.download(id), { first: 1 }); // that says why
    throw e;
  }
  const made = await link(place, id, { expires_in: 300 });
  save(made.here, made.file_name);
}

// archive has the browser fetch all files of a place, or those with some ids, in one ZIP
// archive. The answer with some has to be in the browser first: no address names it.
export async function archive(place, ids = null) {
  const path = `${place.list}.zip`;
  if (!ids) {
    try {
      await ask('HEAD', path);
    } catch (e) {
      if (e.status) await ask('GET', path, { headers: { Range: 'bytes=0-0' } }); // that says why
      throw e;
    }
    return save(at(path), '');
  }
  const answer = await ask('POST', path, { body: { ids } });
  const name = /filename\*=UTF-8\'\'([^;]+)/.exec(answer.headers.get('Content-Disposition') ?? '')?.[1] ?? 'files.zip';
  const url = URL.createObjectURL(await answer.blob());
  save(url, decodeURIComponent(name));
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function save(href, name) {
  const a = document.createElement('a');
  a.href = href;
  a.download = name;
  document.body.append(a);
  a.click();
  a.remove();
}

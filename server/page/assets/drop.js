// Files as they come: dropped with their folders, or pasted.

// filesOf reads what was dropped, folders and all. Its first step must be
// taken while the event is handled: the entries are gone after it.
export async function filesOf(transfer) {
  const entries = [...transfer.items].filter((i) => i.kind === 'file').map((i) => i.webkitGetAsEntry?.() ?? i.getAsFile());
  const files = [];
  for (const entry of entries) await collect(entry, files);
  return files;
}

async function collect(entry, files) {
  if (!entry) return;
  if (entry instanceof File) return void files.push(entry);
  if (entry.isFile) return void files.push(await new Promise((done, failed) => entry.file(done, failed)));
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!batch.length) return; // it gives a hundred at a time
    for (const inner of batch) await collect(inner, files);
  }
}

// pasted gives the files on a clipboard. A picture has no name of its own.
export function pasted(clipboard) {
  const stamp = new Date().toLocaleString('sv').replace(/:/g, '.');
  return [...clipboard?.files ?? []].map((f) => {
    const nameless = /^image\.(\w+)$/.exec(f.name);
    return nameless ? new File([f], `Pasted ${stamp}.${nameless[1]}`, { type: f.type }) : f;
  });
}

export const bringsFiles = (e) => [...e.dataTransfer?.types ?? []].includes('Files');

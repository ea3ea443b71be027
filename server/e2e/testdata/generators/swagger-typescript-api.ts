import { readFile, writeFile } from "node:fs/promises";
import { Api } from "./client/Api";

const api = new Api({
  baseUrl: process.env.ATTACHD_SERVER,
  baseApiParams: { headers: { Authorization: `Bearer ${process.env.ATTACHD_KEY}` } },
});

async function main() {
  const product = ["analytics", "550e8400-e29b-41d4-a716-446655440000"] as const;
  const file = new File([await readFile("report.csv")], "report.csv");
  const uploaded = await api.catalog.uploadProductAttachment(...product, { file }, { format: "json" });

  const list = await api.catalog.listProductAttachments(...product, {}, { format: "json" });
  for (const attachment of list.data) console.log(attachment.file_name, attachment.file_size);

  const download = await api.catalog.downloadProductAttachment(uploaded.data.id, { format: "blob" });
  await writeFile("copy.csv", Buffer.from(await (download.data as unknown as Blob).arrayBuffer()));

  await api.catalog.deleteProductAttachment(uploaded.data.id, {}, { format: "json" });
}

main();

import { readFile, writeFile } from "node:fs/promises";
import { client } from "./client/client.gen";
import { deleteProductAttachment, downloadProductAttachment, listProductAttachments, uploadProductAttachment } from "./client/sdk.gen";

client.setConfig({ baseUrl: process.env.ATTACHD_SERVER, auth: process.env.ATTACHD_KEY, throwOnError: true });

const product = { slug: "analytics", product_id: "550e8400-e29b-41d4-a716-446655440000" };

async function main() {
  const file = new File([await readFile("report.csv")], "report.csv");
  const uploaded = await uploadProductAttachment({ path: product, body: { file }, throwOnError: true });
  const path = { attachment_id: uploaded.data.id };

  const list = await listProductAttachments({ path: product, throwOnError: true });
  for (const attachment of list.data) console.log(attachment.file_name, attachment.file_size);

  const download = await downloadProductAttachment({ path, parseAs: "blob", throwOnError: true });
  await writeFile("copy.csv", Buffer.from(await (download.data as Blob).arrayBuffer()));

  await deleteProductAttachment({ path, throwOnError: true });
}

main();

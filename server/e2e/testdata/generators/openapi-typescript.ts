import { readFile, writeFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { paths } from "./client/schema";

const client = createClient<paths>({
  baseUrl: process.env.ATTACHD_SERVER,
  headers: { Authorization: `Bearer ${process.env.ATTACHD_KEY}` },
});

const product = { slug: "analytics", product_id: "550e8400-e29b-41d4-a716-446655440000" };

function must<T>({ data, error }: { data?: T; error?: { detail: string } }): T {
  if (error) throw new Error(error.detail);
  return data as T;
}

async function main() {
  const file = new File([await readFile("report.csv")], "report.csv");
  const uploaded = must(await client.POST("/catalog/spaces/{slug}/products/{product_id}/attachments", {
    params: { path: product },
    body: { file: "" }, // typed as a string; the serializer sends the form
    bodySerializer: () => {
      const form = new FormData();
      form.append("file", file);
      return form;
    },
  }));
  const path = { attachment_id: uploaded.id };

  const list = must(await client.GET("/catalog/spaces/{slug}/products/{product_id}/attachments", { params: { path: product } }));
  for (const attachment of list) console.log(attachment.file_name, attachment.file_size);

  const content = must(await client.GET("/catalog/attachments/{attachment_id}/download", { params: { path }, parseAs: "arrayBuffer" }));
  await writeFile("copy.csv", Buffer.from(content as unknown as ArrayBuffer));

  must(await client.DELETE("/catalog/attachments/{attachment_id}", { params: { path } }));
}

main();

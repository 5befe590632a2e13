// node node.mjs < cases.txt > answers.json: what Node answers to each line of cases.txt. A line that is a pattern
// alone is tried in each way with each subject of sweep.js; of these answers the digest is kept.
import { createHash } from "node:crypto";
import fs from "node:fs";

const sweep = fs.readFileSync(new URL("sweep.js", import.meta.url), "utf8");
const lines = fs.readFileSync(0, "utf8").split("\n").filter((line) => line && !line.startsWith("# "));
const answers = lines.map((line) => {
  const call = line.startsWith("/") && /^\/.*\/[a-z]*$/.test(line) ? `sweep(${line})` : line;
  try {
    const answer = JSON.stringify((0, eval)(`${sweep};(${call})`)) ?? "undefined";
    return [call, call === line ? answer : createHash("sha256").update(answer).digest("hex").slice(0, 16)];
  } catch (error) {
    return [call, `!${error.name}`];
  }
});
console.log("[\n" + answers.map((pair) => JSON.stringify(pair)).join(",\n") + "\n]");

// Node's official SDKs, unmodified. A JSON line in says what to ask of whom; a JSON line out says what the SDK made of it.
"use strict";

const { createRequire } = require("node:module");
const readline = require("node:readline");

// The packages of package-lock.json lie in the folder that is named.
const packages = createRequire(`${process.argv[2]}/package.json`);
const OpenAI = packages("openai");
const Anthropic = packages("@anthropic-ai/sdk");
const { GoogleGenAI } = packages("@google/genai");

const KEY = "secret-of-the-client";
const HI = "Hi there";

async function openai(ask) {
  const client = new OpenAI({ baseURL: `${ask.url}/v1`, apiKey: KEY, maxRetries: 0, defaultHeaders: ask.headers });
  const messages = [{ role: "user", content: HI }];
  const tools = ask.tool && [{ type: "function", function: ask.tool }];
  let pieces = 0;
  const say = async () => {
    const body = { model: ask.model, messages, tools };
    if (!ask.stream) return client.chat.completions.create(body);
    const stream = client.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
    for await (const _ of stream) pieces += 1;
    return stream.finalChatCompletion();
  };
  const answer = await say();
  const [choice] = answer.choices;
  const [call] = choice.message.tool_calls ?? [];
  const said = { text: choice.message.content, finish: choice.finish_reason, output: answer.usage.completion_tokens, pieces };
  if (!call) return said;
  messages.push(choice.message, { role: "tool", tool_call_id: call.id, content: ask.result });
  const after = (await say()).choices[0].message.content;
  return { ...said, call: { name: call.function.name, arguments: JSON.parse(call.function.arguments) }, after };
}

async function anthropic(ask) {
  const client = new Anthropic({ baseURL: ask.url, apiKey: KEY, maxRetries: 0, defaultHeaders: ask.headers });
  const messages = [{ role: "user", content: HI }];
  const tools = ask.tool && [{ name: ask.tool.name, description: ask.tool.description, input_schema: ask.tool.parameters }];
  let pieces = 0;
  const say = async () => {
    const body = { model: ask.model, max_tokens: 1000, messages, tools };
    if (!ask.stream) return client.messages.create(body);
    const stream = client.messages.stream(body);
    for await (const _ of stream) pieces += 1;
    return stream.finalMessage();
  };
  const text = (message) => message.content.map((block) => block.text ?? "").join("");
  const answer = await say();
  const call = answer.content.find((block) => block.type === "tool_use");
  const said = { text: text(answer), finish: answer.stop_reason, output: answer.usage.output_tokens, pieces };
  if (!call) return said;
  const result = { type: "tool_result", tool_use_id: call.id, content: ask.result };
  messages.push({ role: "assistant", content: answer.content }, { role: "user", content: [result] });
  return { ...said, call: { name: call.name, arguments: call.input }, after: text(await say()) };
}

async function gemini(ask) {
  const client = new GoogleGenAI({ apiKey: KEY, httpOptions: { baseUrl: ask.url, headers: ask.headers } });
  const contents = [{ role: "user", parts: [{ text: HI }] }];
  const { parameters, ...named } = ask.tool ?? {};
  const config = ask.tool && { tools: [{ functionDeclarations: [{ ...named, parametersJsonSchema: parameters }] }] };
  let pieces = 0;
  const say = async () => {
    const body = { model: ask.model, contents, config };
    if (!ask.stream) return [await client.models.generateContent(body)];
    const chunks = [];
    for await (const chunk of await client.models.generateContentStream(body)) chunks.push(chunk);
    pieces += chunks.length;
    return chunks;
  };
  const text = (chunks) => chunks.map((chunk) => chunk.text ?? "").join("");
  const chunks = await say();
  const last = chunks[chunks.length - 1];
  const parts = chunks.flatMap((chunk) => chunk.candidates?.[0].content?.parts ?? []);
  const call = parts.find((part) => part.functionCall)?.functionCall;
  const output = last.usageMetadata.candidatesTokenCount;
  const said = { text: text(chunks), finish: last.candidates[0].finishReason, output, pieces };
  if (!call) return said;
  const functionResponse = { id: call.id, name: call.name, response: { result: ask.result } };
  contents.push({ role: "model", parts }, { role: "user", parts: [{ functionResponse }] });
  return { ...said, call: { name: call.name, arguments: call.args }, after: text(await say()) };
}

// The error's class and those above it, by name, as a program would catch it.
function kinds(error) {
  const names = [];
  for (let kind = error?.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) names.push(kind.name);
  return names;
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const ask = JSON.parse(line);
    const said = await { openai, anthropic, gemini }[ask.sdk](ask).catch((error) => ({
      error: { kinds: kinds(error), status: error.status, message: error.message, retryAfter: error.headers?.get("retry-after") },
    }));
    process.stdout.write(`${JSON.stringify(said)}\n`);
  }
}

main();

// One turn with tools of the Vercel AI SDK, as a JSON line: turn.mjs BASE_URL MODEL API FORM QUESTION.

import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [baseURL, model, api, form, question] = process.argv.slice(2);
const openai = createOpenAI({ baseURL, apiKey: "any" });
const APIS = {
  responses: { model: openai.responses(model) },
  "responses without a store": {
    model: openai.responses(model),
    providerOptions: { openai: { store: false, include: ["reasoning.encrypted_content"] } },
  },
  chat: { model: openai.chat(model) },
};
const FORMS = { streamed, whole: generateText };

function echo(description, ...names) {
  const properties = Object.fromEntries(names.map((name) => [name, { type: "string" }]));
  return tool({
    description,
    inputSchema: jsonSchema({ type: "object", properties, required: names, additionalProperties: false }),
    execute: async (input) => names.map((name) => input[name]).join(" "),
  });
}

const kinds = new Set();
const errors = [];

async function streamed(settings) {
  const result = streamText({ ...settings, onError: ({ error }) => errors.push(error) });
  for await (const part of result.fullStream) {
    kinds.add(part.type);
  }
  return { steps: await result.steps };
}

globalThis.AI_SDK_LOG_WARNINGS = false;
const { steps } = await FORMS[form]({
  ...APIS[api],
  prompt: question,
  tools: {
    get_weather: echo("The weather in a city.", "city", "unit"),
    get_time: echo("The time in a zone.", "zone"),
  },
  stopWhen: stepCountIs(4),
});
console.log(
  JSON.stringify({
    kinds: [...kinds],
    errors,
    warnings: steps.flatMap((step) => step.warnings ?? []),
    steps: steps.map((step) => ({
      text: step.text,
      calls: step.toolCalls.map((call) => [call.toolName, call.input]),
      results: step.toolResults.map((result) => result.output),
      reason: step.finishReason,
      counted: step.usage.totalTokens > 0,
    })),
  }),
);

// npm `openai`.
const assert = require('node:assert/strict');
const { test } = require('node:test');
const OpenAI = require('openai');
const { QWEN, SMOLLM2, URL, WEATHER, askPerson, askWeather, cancelled, isPerson, PERSON } = require('./shared.cjs');

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: 'any', maxRetries: 0 });
const hello = { model: SMOLLM2, messages: [{ role: 'user', content: 'Say hello.' }], temperature: 0, max_tokens: 12 };
const weather = { model: QWEN, messages: askWeather, tools: [WEATHER], temperature: 0, max_tokens: 64 };

test('models', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok([SMOLLM2, QWEN].every((id) => ids.includes(id)));
});

test('chat, whole and streamed', async () => {
  await client.chat.completions.create(hello);
  const whole = await client.chat.completions.create(hello);
  let text = '';
  for await (const chunk of await client.chat.completions.create({ ...hello, stream: true })) {
    text += chunk.choices[0].delta.content ?? '';
  }
  assert.equal(text, whole.choices[0].message.content);
});

test('completions', async () => {
  const answer = await client.completions.create({ model: SMOLLM2, prompt: 'Once upon a time', max_tokens: 8 });
  assert.ok(answer.choices[0].text && answer.usage.completion_tokens <= 8);
});

test('a tool is called, whole and streamed', async () => {
  const whole = await client.chat.completions.create({ ...weather, tool_choice: 'required' });
  const streamed = await client.chat.completions.stream(weather).finalChatCompletion();
  for (const answer of [whole, streamed]) {
    const [{ function: called }] = answer.choices[0].message.tool_calls;
    assert.equal(called.name, 'get_weather');
    assert.deepEqual(JSON.parse(called.arguments), { city: 'Paris' });
    assert.equal(answer.choices[0].finish_reason, 'tool_calls');
  }
});

test('answers follow a schema', async () => {
  const response_format = { type: 'json_schema', json_schema: { name: 'person', schema: PERSON, strict: true } };
  const answer = await client.chat.completions.create({ ...hello, messages: askPerson, response_format, max_tokens: 100 });
  isPerson(JSON.parse(answer.choices[0].message.content));
});

test('responses', async () => {
  const answer = await client.responses.create({ model: SMOLLM2, input: 'Say hello.', max_output_tokens: 16 });
  assert.ok(answer.output_text);
});

test('errors', async () => {
  await assert.rejects(client.chat.completions.create({ ...hello, model: 'no-such-model' }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...hello, temperature: 3 }), OpenAI.BadRequestError);
});

test('abort ends the answer on the server', async () => {
  await cancelled(async () => {
    const stream = await client.chat.completions.create({ ...hello, max_tokens: 3000, ignore_eos: true, stream: true });
    for await (const _ of stream) break;
  });
});

// npm `ollama`.
const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Ollama } = require('ollama');
const { QWEN, SMOLLM2, URL, WEATHER, askPerson, askWeather, cancelled, isPerson, PERSON } = require('./shared.cjs');

const client = new Ollama({ host: URL });
const messages = [{ role: 'user', content: 'Say hello.' }];
const options = { temperature: 0, num_predict: 12 };

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

test('models are listed and shown', async () => {
  const { models } = await client.list();
  assert.ok([SMOLLM2, QWEN].every((name) => models.some((model) => model.name === name)));
  const shown = await client.show({ model: QWEN });
  assert.equal(shown.model_info['qwen2.context_length'], 32768);
  assert.ok(shown.capabilities.includes('tools'));
  assert.match((await client.version()).version, /^\d+\.\d+\.\d+/);
});

test('chat, whole and streamed', async () => {
  await client.chat({ model: SMOLLM2, messages, options });
  const whole = await client.chat({ model: SMOLLM2, messages, options });
  const parts = await collect(await client.chat({ model: SMOLLM2, messages, options, stream: true }));
  assert.equal(parts.map((part) => part.message.content).join(''), whole.message.content);
  assert.ok(parts.at(-1).done && parts.at(-1).eval_count === whole.eval_count);
});

test('generate', async () => {
  const answer = await client.generate({ model: SMOLLM2, prompt: 'Once upon a time', raw: true, options });
  assert.ok(answer.response && answer.eval_count <= 12);
});

test('a tool is called', async () => {
  const answer = await client.chat({
    model: QWEN, messages: askWeather, tools: [WEATHER], options: { temperature: 0, num_predict: 64 },
  });
  const [{ function: called }] = answer.message.tool_calls;
  assert.deepEqual([called.name, called.arguments], ['get_weather', { city: 'Paris' }]);
});

test('answers follow a schema', async () => {
  const answer = await client.chat({
    model: SMOLLM2, messages: askPerson, format: PERSON, options: { temperature: 0.8, seed: 3, num_predict: 100 },
  });
  isPerson(JSON.parse(answer.message.content));
});

test('errors', async () => {
  await assert.rejects(client.chat({ model: 'no-such-model', messages }), { status_code: 404 });
  await assert.rejects(client.chat({ model: SMOLLM2, messages, options: { temperature: 'hot' } }), { status_code: 400 });
});

test('abort ends the answer on the server', async () => {
  await cancelled(async () => {
    const prompt = '1 2 3';
    const stream = await client.generate({ model: SMOLLM2, prompt, raw: true, stream: true, options: { num_predict: 3000 } });
    await assert.rejects(async () => {
      for await (const _ of stream) stream.abort();
    }, { name: 'AbortError' });
  });
});

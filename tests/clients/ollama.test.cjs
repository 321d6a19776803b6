// npm `ollama`.
const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Ollama } = require('ollama');

const SMOLLM2 = 'smollm2:135m';
const client = new Ollama({ host: process.env.WHIT_URL });

test('list', async () => {
  const { models } = await client.list();
  assert.ok(models.some((model) => model.name === SMOLLM2));
});

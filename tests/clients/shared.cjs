// What the Node clients share.
const assert = require('node:assert/strict');

const URL = process.env.WHIT_URL;
const PERSON = {
  type: 'object',
  properties: { name: { type: 'string', maxLength: 20 }, age: { type: 'integer', minimum: 0, maximum: 150 } },
  required: ['name', 'age'],
  additionalProperties: false,
};

function isPerson({ name, age, ...rest }) {
  assert.ok(typeof name === 'string' && name.length <= 20 && Number.isInteger(age) && age >= 0 && age <= 150);
  assert.deepEqual(rest, {});
}

async function nCancelled() {
  const text = await (await fetch(`${URL}/metrics`)).text();
  return Number(/^whit_cancelled_total (\d+)$/m.exec(text)[1]);
}

// Checks that an answer which the client gives up in `work` ends on the server too.
async function cancelled(work) {
  const before = await nCancelled();
  await work();
  const end = Date.now() + 30_000;
  while ((await nCancelled()) === before) {
    assert.ok(Date.now() < end, 'it goes on and on');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

module.exports = {
  URL,
  SMOLLM2: 'smollm2:135m',
  QWEN: 'qwen2.5-coder:0.5b',
  PERSON,
  WEATHER: {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'The weather in a city',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  },
  askPerson: [{ role: 'user', content: 'Make up a person.' }],
  askWeather: [{ role: 'user', content: 'What is the weather in Paris? Call the function.' }],
  cancelled,
  isPerson,
};

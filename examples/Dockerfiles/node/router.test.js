'use strict';

const test = require('node:test');
const assert = require('node:assert');
const { route } = require('./router');

test('adds', () => assert.deepEqual(route('GET', '/sum?n=1&n=41'), [200, { sum: 42 }]));
test('refuses words', () => assert.equal(route('GET', '/sum?n=x')[0], 400));
test('refuses writes', () => assert.equal(route('POST', '/')[0], 405));

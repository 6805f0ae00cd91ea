'use strict';

function route(method, url) {
  const { pathname, searchParams } = new URL(url, 'http://localhost');
  if (method !== 'GET') return [405, { error: 'only GET' }];
  if (pathname === '/') return [200, { service: 'node', env: process.env.NODE_ENV || '' }];
  if (pathname === '/sum') {
    const sum = searchParams.getAll('n').reduce((total, n) => total + Number(n), 0);
    return Number.isFinite(sum) ? [200, { sum }] : [400, { error: 'n must be a number' }];
  }
  return [404, { error: `no ${pathname} here` }];
}

module.exports = { route };

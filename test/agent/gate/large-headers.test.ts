/** Header blocks of megabytes between two peers of the gate, and what is beside them. */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { expect, test } from 'vitest';
import { readDetails } from '../../../agent/builds/failure.ts';
import { errorTrailers, sourceDetail } from '../../fixtures/build-errors.ts';
import { endOf, openLab, request } from './lab.ts';

const file = Buffer.alloc(1_200_000, 'RUN true\n');
const long = Object.fromEntries(errorTrailers('it failed', [sourceDetail(file, [[100_000, 100_000]])]));

/** Fails at `/long`, after some of an answer, and at `/at-once`; answers all else. */
function serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  if (headers[':path'] === '/at-once') stream.respond({ ':status': 200, ...long }, { endStream: true });
  else if (headers[':path'] === '/long') {
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers(long));
    stream.end('some of an answer');
  } else stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true });
}

/** How long what is to become so may take. */
const soon = { timeout: 5000 };
// Node's client takes 64 KiB: 100,000 empty lines do not fit.
const settings = { maxHeaderListSize: 60_000 };

test.each(['/long', '/at-once'])('the end of %s comes in a form that the client takes', async (path) => {
  const lab = await openLab({ serve });
  const call = request(lab.client(settings), { ':path': path });
  let body = '';
  call.on('data', (chunk: Buffer) => {
    body += chunk;
  });
  const { code, message } = await endOf(call);
  expect(code).toBe('2');
  expect(message).toBe("it failed (buildvisor left out the file's lines, as this client takes 60.0 kB of headers)");
  expect(body).toBe(path === '/long' ? 'some of an answer' : '');
  expect(lab.blocks.open).toBe(0);
});

test('what a client can take it gets', async () => {
  const near = Object.fromEntries(errorTrailers('it failed', [sourceDetail(file, [[2000, 2000]])]));
  const lab = await openLab({ serve: (stream) => stream.respond({ ':status': 200, ...near }, { endStream: true }) });
  const call = request(lab.client(settings));
  let details = '';
  call.on('response', (headers) => {
    details = String(headers['grpc-status-details-bin']);
  });
  expect(await endOf(call)).toEqual({ code: '2', message: 'it failed' });
  expect(readDetails(Buffer.from(details, 'base64')).source).toMatchObject({ firstLine: 2000, excerptLine: 1996 });
});

test('calls beside a long end go on, on its connection and on others; each end is that of its call', async () => {
  const lab = await openLab({ serve });
  const clients = [lab.client(settings), lab.client(settings)];
  const ends = clients.flatMap((client) =>
    ['/long', '/short', '/at-once', '/short'].map((path) => endOf(request(client, { ':path': path }))),
  );
  expect((await Promise.all(ends)).map(({ code }) => code)).toEqual(['2', '0', '2', '0', '2', '0', '2', '0']);
  await expect.poll(() => lab.active, soon).toBe(0);
});

test('a call that its client gives up in the middle of a long end leaves nothing, and the next ones are served', async () => {
  const lab = await openLab({ serve });
  const client = lab.client(settings);
  for (let round = 0; round < 6; round++) {
    const call = request(client, { ':path': '/long' });
    call.on('response', () => setTimeout(() => call.close(8), round));
    await endOf(call);
  }
  expect((await endOf(request(client, { ':path': '/short' }))).code).toBe('0');
  await expect.poll(() => [lab.active, lab.blocks.open], soon).toEqual([0, 0]);
});

test('a client that goes in the middle of a long end takes its block along', async () => {
  const lab = await openLab({ serve });
  for (let round = 0; round < 5; round++) {
    const client = lab.client(settings);
    const call = request(client, { ':path': '/long' });
    call.on('response', () => setTimeout(() => client.destroy(), round * 2));
    await endOf(call);
  }
  await expect.poll(() => [lab.active, lab.connections, lab.blocks.open], soon).toEqual([0, 0, 0]);
});

test('a long end that has come whole is told, though buildkitd goes right after it', async () => {
  const lab = await openLab({
    serve: (stream, headers) => {
      serve(stream, headers);
      stream.on('close', () => lab.loseUpstream());
    },
  });
  const { code, message } = await endOf(request(lab.client(settings), { ':path': '/at-once' }));
  expect([code, message]).toEqual(['2', expect.stringContaining('it failed')]);
  await expect.poll(() => [lab.active, lab.blocks.open], soon).toEqual([0, 0]);
});

test('a client that goes while the long end of a buildkitd that has gone is read leaves nothing', async () => {
  for (let round = 0; round < 4; round++) {
    const lab = await openLab({
      serve: (stream, headers) => {
        serve(stream, headers);
        stream.on('close', () => {
          lab.loseUpstream();
          setTimeout(() => client.destroy(), round * 3);
        });
      },
    });
    const client = lab.client(settings);
    await endOf(request(client, { ':path': '/at-once' }));
    await expect.poll(() => [lab.active, lab.connections, lab.blocks.open], soon).toEqual([0, 0, 0]);
  }
});

test('a buildkitd that dies in the middle of a long end leaves no block', async () => {
  const lab = await openLab({
    serve: (stream, headers) => {
      serve(stream, headers);
      setTimeout(() => lab.loseUpstream(), 3);
    },
  });
  const { code } = await endOf(request(lab.client(settings), { ':path': '/at-once' }));
  expect(['2', '14']).toContain(code);
  await expect.poll(() => lab.blocks.open, soon).toBe(0);
});

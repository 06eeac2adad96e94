import { connect } from 'node:net';
import { mkdtempSync } from 'node:fs';
import { createServer } from 'node:http2';
import { openGate } from './test/native/gate.ts';
import { spawn } from 'node:child_process';
if (process.argv[2] === 'gate') {
  const dir = process.argv[3] as string;
  const up = createServer(); up.on('stream', (s) => s.respond({':status':200,'grpc-status':'0'},{endStream:true})); up.on('session', (s)=>s.on('error',()=>{}));
  up.listen(dir + '/up.sock');
  const g = await openGate(dir, dir + '/up.sock', {});
  console.log(g.socket);
} else {
  const dir = mkdtempSync('/tmp/bvfd-');
  const child = spawn('bash', ['-c', `ulimit -n 120; exec node prof-fd.ts gate ${dir}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  child.on('exit', (c, s) => console.log('gate exit', c, s));
  const path = String((await new Promise((r) => child.stdout.once('data', r)))).trim();
  const socks = Array.from({ length: 300 }, () => { const s = connect(path); s.on('error', () => {}); return s; });
  let closed = 0; for (const s of socks) { s.resume(); s.on('close', () => closed++); s.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'); }
  await new Promise((r) => setTimeout(r, 3000));
  console.log('closed', closed, 'of 300');
  for (const s of socks) s.destroy();
  await new Promise((r) => setTimeout(r, 500));
  const { connect: h2 } = await import('node:http2');
  const c = h2('http://x', { createConnection: () => connect(path) }); c.on('error', (e) => console.log(String(e)));
  const q = c.request({ ':method': 'POST', ':path': '/a.B/C' }); q.on('response', (h) => { console.log('after', h['grpc-status'], h['grpc-message']); }); q.on('close', () => { child.kill(); c.destroy(); }); q.end();
}

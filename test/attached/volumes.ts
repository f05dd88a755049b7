/** Attached volumes in tests: a lab with a volume, and clients that stay connected. */
import { type ChildProcess, spawn } from 'node:child_process';
import { onTestFinished } from 'vitest';
import { type Lab, lab, parsed } from '../cli/program.js';
import { requireTool } from '../interop/tools.js';

/** What `attached --json` says of a volume. */
export interface Listed {
  volumeId: string;
  path: string;
  uri: string;
  socket: string;
  pid: number;
  readOnly: boolean;
  metrics: string | null;
  mountedFile: string | null;
  status: { clients: number; requests: number; readBytes: number; writtenBytes: number; errors: number } | null;
}

/** A lab with the volume `disk.vol` of an image of random bytes. */
export function labWithVolume(bytes = 1024 * 1024): Lab & { contents(name: string): Buffer; listed(): Listed[]; image: Lab['image'] } {
  const made = lab();
  made.image('disk.raw', bytes);
  made.ok(['encrypt', 'disk.raw', 'disk.vol']);
  return { ...made, listed: () => parsed(made.ok(['attached', '--json']).text).attached as Listed[] };
}

/** A client that stays connected until its standard input ends. Resolves once it is. */
export async function connected(uri: string): Promise<ChildProcess> {
  // The system's own Python has the module that nbdsh needs.
  const env = { ...process.env, PATH: `/usr/bin:${process.env.PATH}` };
  const program = 'import sys; print("connected", flush=True); sys.stdin.read()';
  const client = spawn(requireTool('nbdsh'), ['-u', uri, '-c', program], { env });
  onTestFinished(() => void client.kill('SIGKILL'));
  client.stderr.resume();
  await new Promise<void>((resolve, reject) => {
    client.stdout.once('data', () => resolve());
    client.once('close', (status) => reject(new Error(`nbdsh ended with ${status}`)));
  });
  return client;
}

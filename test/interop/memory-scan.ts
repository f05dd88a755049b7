/**
 * Counts copies of keys in a process's memory, every mapping and every form of them (key-forms.ts).
 *
 * The process is stopped (SIGSTOP) while it is read, so that one scan is one moment. Mappings whose VmFlags have `lo`
 * and `dd` (locked, left out of core dumps) hold keys rightfully and are counted apart; mappings of memfd_secret can be
 * read by nobody and are listed as unreadable.
 */
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { keyForms } from './key-forms.js';

export interface Mapping {
  startByte: number;
  endByte: number;
  name: string;
  /** Has pages in memory or in swap. */
  populated: boolean;
  locked: boolean;
  flags: string[];
}

export interface KeyCopy {
  /** Which of the keys it is a copy of. */
  keyIndex: number;
  /** Forms found side by side at this place: one schedule of round keys is one copy. */
  forms: string[];
  startByte: number;
  endByte: number;
  mapping: Mapping;
}

export interface MemoryScan {
  /** Copies in ordinary memory: there should be none. */
  outside: KeyCopy[];
  /** Copies in locked memory. */
  locked: KeyCopy[];
  unreadable: Mapping[];
  scannedBytes: number;
}

const PAGE_BYTES = 4096;
const CHUNK_BYTES = 4 * 1024 * 1024;
const NEEDLE_BYTES = 16;
/** Of 5 ms each: 300 s, the deadline of a test, which cannot end a wait that blocks its thread. */
const STOP_TRIES = 60_000;

/** The mappings that `/proc/PID/smaps` describes, but for the kernel's own pages ([vsyscall], [vvar]). */
export function parseSmaps(text: string): Mapping[] {
  return text
    .split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
    .map((entry) => {
      const head = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)/.exec(entry);
      if (head === null) throw new Error(`memory scan: not an entry of smaps: ${entry.slice(0, 100)}`);
      const kilobytes = (name: string): number => Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(entry)?.[1] ?? 0);
      const flags = (/^VmFlags: (.*)$/m.exec(entry)?.[1] ?? '').trim().split(' ');
      return {
        startByte: Number.parseInt(head[1]!, 16),
        endByte: Number.parseInt(head[2]!, 16),
        name: head[3] === '' ? 'anonymous' : head[3]!,
        populated: kilobytes('Rss') + kilobytes('Swap') > 0,
        locked: flags.includes('lo') && flags.includes('dd'),
        flags,
      };
    })
    .filter(({ name }) => !['[vsyscall]', '[vvar]', '[vvar_vclock]'].includes(name));
}

/** The mappings of a living process. */
export const mappingsOf = (pid: number | 'self'): Mapping[] => parseSmaps(readFileSync(`/proc/${pid}/smaps`, 'latin1'));

interface Needle {
  form: string;
  keyIndex: number;
  bytes: Buffer;
}

/**
 * Looks for 16-byte needles at every byte: a rolling hash of four bytes against a table, so that the time hardly
 * depends on their number.
 */
class NeedleSearch {
  readonly #slots = new Uint8Array(1 << 20);
  readonly #needles = new Map<number, Needle[]>();

  constructor(needles: Needle[]) {
    for (const needle of needles) {
      const first = needle.bytes.readUInt32LE(0);
      this.#slots[NeedleSearch.#slotOf(first)] = 1;
      this.#needles.set(first, [...(this.#needles.get(first) ?? []), needle]);
    }
  }

  static #slotOf(word: number): number {
    return Math.imul(word, 0x9e3779b1) >>> 12;
  }

  /** Reports each needle that begins before `limit`. */
  find(bytes: Buffer, limit: number, report: (needle: Needle, offset: number) => void): void {
    let word = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
    const last = Math.min(limit, bytes.length - NEEDLE_BYTES + 1);
    for (let at = 0; at < last; at++) {
      if (this.#slots[NeedleSearch.#slotOf(word)] === 1) {
        for (const needle of this.#needles.get(word >>> 0) ?? []) {
          if (needle.bytes.equals(bytes.subarray(at, at + NEEDLE_BYTES))) report(needle, at);
        }
      }
      word = (word >>> 8) | (bytes[at + 4]! << 24);
    }
  }
}

/** Reads process memory; pages that cannot be read come out as zeros. @returns whether all could be read */
function readMemory(fd: number, target: Buffer, startByte: number): boolean {
  let complete = true;
  for (let done = 0; done < target.length; ) {
    let got = 0;
    try {
      got = readSync(fd, target, done, target.length - done, startByte + done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EIO' && code !== 'EFAULT') throw error;
    }
    if (got === 0) {
      complete = false;
      got = Math.min(PAGE_BYTES - ((startByte + done) % PAGE_BYTES), target.length - done);
      target.fill(0, done, done + got);
    }
    done += got;
  }
  return complete;
}

/**
 * The runs of pages of a range that are in memory or in swap: a mapping may reserve gigabytes, and what was never
 * touched has no copy. Words of 64 bits; the two highest bits say so (Documentation/admin-guide/mm/pagemap.rst).
 */
function runsOfPages(pagemap: number, startByte: number, byteCount: number): { startByte: number; endByte: number }[] {
  const words = new Uint32Array(2 * Math.ceil(byteCount / PAGE_BYTES));
  readSync(pagemap, new Uint8Array(words.buffer), 0, words.byteLength, (startByte / PAGE_BYTES) * 8);
  const runs: { startByte: number; endByte: number }[] = [];
  for (let page = 0; page < words.length / 2; page++) {
    if (words[2 * page + 1]! >>> 30 === 0) continue;
    const at = startByte + page * PAGE_BYTES;
    const last = runs.at(-1);
    if (last?.endByte === at) last.endByte += PAGE_BYTES;
    else runs.push({ startByte: at, endByte: at + PAGE_BYTES });
  }
  return runs;
}

function stateOf(pid: number, thread: string): string | undefined {
  try {
    return /^State:\s+(\w)/m.exec(readFileSync(`/proc/${pid}/task/${thread}/status`, 'latin1'))?.[1];
  } catch {
    return undefined; // the thread has ended meanwhile
  }
}

function stop(pid: number): void {
  process.kill(pid, 'SIGSTOP');
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const running = (): boolean => readdirSync(`/proc/${pid}/task`).some((thread) => !['T', 't', undefined].includes(stateOf(pid, thread)));
  for (let tries = 0; running(); tries++) {
    if (tries === STOP_TRIES) throw new Error(`memory scan: process ${pid} does not stop`);
    Atomics.wait(pause, 0, 0, 5);
  }
}

interface Find {
  form: string;
  keyIndex: number;
  startByte: number;
}

/** Joins finds that touch, or lie one needle apart, into copies. */
function joined(finds: Find[], mapping: Mapping): KeyCopy[] {
  const copies: KeyCopy[] = [];
  for (const { form, keyIndex, startByte } of finds.toSorted((a, b) => a.keyIndex - b.keyIndex || a.startByte - b.startByte)) {
    const last = copies.at(-1);
    if (last?.keyIndex === keyIndex && startByte <= last.endByte + NEEDLE_BYTES) {
      last.endByte = Math.max(last.endByte, startByte + NEEDLE_BYTES);
      if (!last.forms.includes(form)) last.forms.push(form);
    } else {
      copies.push({ keyIndex, forms: [form], startByte, endByte: startByte + NEEDLE_BYTES, mapping });
    }
  }
  return copies;
}

/**
 * Scans another process of the same user (or any, as root) for keys of 32 or 64 bytes. About 0.5 s for 100 MB. The
 * process continues afterwards.
 * @throws {Error} where it is gone or may not be read
 */
export function scanMemory(pid: number, keys: Buffer[]): MemoryScan {
  const search = new NeedleSearch(keys.flatMap((key, keyIndex) => keyForms(key).map((form) => ({ ...form, keyIndex }))));
  const scan: MemoryScan = { outside: [], locked: [], unreadable: [], scannedBytes: 0 };
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES + NEEDLE_BYTES);
  stop(pid);
  try {
    const fd = openSync(`/proc/${pid}/mem`, 'r');
    const pagemap = openSync(`/proc/${pid}/pagemap`, 'r');
    try {
      for (const mapping of mappingsOf(pid).filter(({ populated }) => populated)) {
        const finds: Find[] = [];
        let complete = true;
        for (let start = mapping.startByte; start < mapping.endByte; start += CHUNK_BYTES) {
          const end = Math.min(start + CHUNK_BYTES, mapping.endByte);
          for (const run of runsOfPages(pagemap, start, end - start)) {
            const length = run.endByte - run.startByte;
            // A needle may lie across the chunks' border: each chunk sees the first bytes of the next.
            const beyond = run.endByte === end ? Math.min(NEEDLE_BYTES - 1, mapping.endByte - end) : 0;
            const bytes = buffer.subarray(0, length + beyond);
            complete = readMemory(fd, bytes, run.startByte) && complete;
            scan.scannedBytes += length;
            search.find(bytes, length, ({ form, keyIndex }, offset) => finds.push({ form, keyIndex, startByte: run.startByte + offset }));
          }
        }
        if (!complete) scan.unreadable.push(mapping);
        (mapping.locked ? scan.locked : scan.outside).push(...joined(finds, mapping));
      }
    } finally {
      closeSync(pagemap);
      closeSync(fd);
    }
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  return scan;
}

/** Copies as lines for an assertion's message: where each one lies, and in which form. */
export function describeCopies(copies: KeyCopy[]): string {
  return copies
    .map(
      ({ forms, startByte, endByte, mapping }) =>
        `${forms.join(' + ')}: ${endByte - startByte} bytes at ${startByte.toString(16)} in ${mapping.name}`,
    )
    .join('\n');
}

/**
 * Gives `Symbol.asyncDispose` to a `vm` context of Node 20 or 22 (Jest, vitest's vmThreads), where only the main
 * context has it: without it no `await using` works. It is the main context's symbol, because Node's own objects
 * (`FileHandle`) carry that one.
 */
import { Readable } from 'node:stream';

if (Symbol.asyncDispose === undefined) {
  const value = Object.getOwnPropertySymbols(Readable.prototype).find(({ description }) => description?.endsWith('.asyncDispose'));
  if (value !== undefined) Object.defineProperty(Symbol, 'asyncDispose', { value });
}

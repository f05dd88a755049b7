// The licences of packages whose code a bundle carries: who passes their code on passes these on.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @param inputs the files of which bundles were made, as esbuild names them @returns a text, one section a package */
export function licences(inputs) {
  const directories = new Set(inputs.flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path) ?? []));
  return [...directories]
    .sort()
    .map((directory) => {
      const { name, version, license } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
      const texts = readdirSync(directory).filter((file) => /^(licen[cs]e|notice)/i.test(file));
      return [`${name} ${version}: ${license}`, ...texts.map((file) => readFileSync(join(directory, file), 'utf8').trim())].join('\n\n');
    })
    .join(`\n\n${'-'.repeat(80)}\n\n`);
}

// Inputs that are kept: test/fuzz/corpus/<target>/<name>, beside the seeds in code. Made by fuzzing and minimised (scripts/fuzz), or by other
// programs (`seed-…`), or what once failed (`found-…`).
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FuzzTarget } from './target.ts'

const root = join(import.meta.dirname, 'corpus')

export const corpusDirectory = ({ name }: Pick<FuzzTarget, 'name'>): string => join(root, name)

export const readCorpus = (target: Pick<FuzzTarget, 'name'>): readonly Uint8Array[] => {
  const directory = corpusDirectory(target)
  if (!existsSync(directory)) return []
  return readdirSync(directory)
    .toSorted()
    .map(name => new Uint8Array(readFileSync(join(directory, name))))
}

export const keepInput = (target: Pick<FuzzTarget, 'name'>, name: string, bytes: Uint8Array): string => {
  const directory = corpusDirectory(target)
  mkdirSync(directory, { recursive: true })
  const path = join(directory, name)
  writeFileSync(path, bytes)
  return path
}

/** Seeds first. */
export const inputsOf = (target: FuzzTarget): readonly Uint8Array[] => [...target.seeds(), ...readCorpus(target)]

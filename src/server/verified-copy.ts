// That a copied tree is on disk and is what was copied, before the original goes: digests of every file, and fsync of everything.
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { syncPath } from '../signer/durable-file.ts'
import { ServerError } from './errors.ts'

/** SHA-256 of every file, by path below the tree. */
export type TreeDigests = Readonly<Record<string, string>>

/** Files first, then the directory that names them. */
export const syncTree = (path: string): void => {
  if (lstatSync(path).isDirectory()) for (const name of readdirSync(path)) syncTree(join(path, name))
  syncPath(path)
}

/** Nothing where there is no such tree. @throws ServerError `directory_unusable` for what is neither file nor directory */
export const digestTree = (root: string, below = ''): TreeDigests => {
  const path = join(root, below)
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return {}
  if (found.isDirectory())
    return Object.assign({}, ...readdirSync(path).map(name => digestTree(root, join(below, name))))
  if (!found.isFile())
    throw new ServerError('directory_unusable', `${path} is neither a file nor a directory`, {
      hint: 'put what it stands for in its place, or remove it, then try again',
    })
  return { [below]: createHash('sha256').update(readFileSync(path)).digest('hex') }
}

/** What of `some` is not in `all` just so; null: everything is. */
export const firstNotIn = (all: TreeDigests, some: TreeDigests): string | null =>
  Object.keys(some).find(path => all[path] !== some[path]) ?? null

// The published state on disk: files that any web server, mirror or sidecar may serve, and what the next start begins with. New files
// come before the head that names them, old ones go once no head has named them for a while.
import { createHash } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8, toHex } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { createPublishedFile, type PublishedFile, preparePublicDirectory } from '../base/published-file.ts'
import { type StateHead, type StateTrust, verifyStateHead } from '../verify/signed-state.ts'

/** A head with its note and every file that it names. */
export interface PublishedState {
  readonly head: StateHead
  readonly note: Uint8Array
  readonly headJson: Uint8Array
  readonly files: ReadonlyMap<string, Uint8Array>
}

export interface StateDirectory {
  /** What an earlier life published, if it is whole and ours; null otherwise, and the log says why. */
  load(trust: Pick<StateTrust, 'caId' | 'logKeySpki'>): Promise<PublishedState | null>
  /** Durable when it resolves. @throws the error of the file system: what was there is then still whole */
  show(state: PublishedState): Promise<void>
  remove(name: string): Promise<void>
}

export const headFile = 'head'
export const headJsonFile = 'head.json'
const ours = /^(?:snapshot|delta)-[0-9a-f-]+\.jsonl$/

const namesIn = ({ snapshot, deltas }: StateHead): readonly string[] => [
  snapshot.name,
  ...deltas.map(({ name }) => name),
]

const readNamed = async (directory: string, { snapshot, deltas }: StateHead): Promise<PublishedState['files']> => {
  const files = new Map<string, Uint8Array>()
  for (const { name, sha256 } of [snapshot, ...deltas]) {
    const bytes = await readFile(join(directory, name))
    if (toHex(createHash('sha256').update(bytes).digest()) !== sha256) throw new Error(`${name} has another hash`)
    files.set(name, bytes)
  }
  return files
}

/** @throws the error of the file system when the directory cannot be made */
export const openStateDirectory = async (directory: string, log: Log): Promise<StateDirectory> => {
  await preparePublicDirectory(directory)
  const heads = [headJsonFile, headFile].map(name => createPublishedFile(join(directory, name)))
  const [headJson, note] = heads as [PublishedFile, PublishedFile]
  // Owned by this closure: files that are there, durable and whole.
  const written = new Set<string>()

  const readState = async (trust: Pick<StateTrust, 'caId' | 'logKeySpki'>): Promise<PublishedState | null> => {
    const [json, signed] = [await headJson.read(), await note.read()]
    if (json === null || signed === null) return null
    const any = { ...trust, notOlderThan: null, now: null }
    const head = verifyStateHead(fromUtf8(signed), fromUtf8(json), any)
    return { head, note: signed, headJson: json, files: await readNamed(directory, head) }
  }
  return {
    load: async trust => {
      let state: PublishedState | null = null
      try {
        state = await readState(trust)
      } catch (error) {
        log.warn({ reason: messageOf(error) }, 'the state that was published before cannot be used')
      }
      const named = new Set(state === null ? [] : namesIn(state.head))
      for (const name of named) written.add(name)
      for (const name of await readdir(directory))
        if (ours.test(name) && !named.has(name)) await rm(join(directory, name), { force: true })
      return state
    },
    show: async state => {
      for (const [name, bytes] of state.files) {
        if (written.has(name)) continue
        await createPublishedFile(join(directory, name)).show(bytes)
        written.add(name)
      }
      await headJson.show(state.headJson)
      await note.show(state.note)
    },
    remove: async name => {
      written.delete(name)
      await rm(join(directory, name), { force: true })
    },
  }
}

// Who is held or retired by the state that was published: what no CRL says, because whoever has no live certificate is on none.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PrincipalKind } from '../verify/feed-event.ts'
import { neededFiles, readDeltaFile, readSnapshotFile, type StateHead } from '../verify/signed-state.ts'

export interface Suspended {
  readonly kind: PrincipalKind
  readonly name: string
}

/**
 * @param directory of the head, where the files lie that it names
 * @throws AgentCaError for files that are not those; the error of the file system for those that are not there
 */
export const suspendedIn = (head: StateHead, directory: string): readonly Suspended[] => {
  const found = new Map<string, Suspended>()
  const hear = ({ kind, name, state }: Suspended & { readonly state: string }): void => {
    const key = `${kind}:${name}`
    if (state === 'active') found.delete(key)
    else found.set(key, { kind, name })
  }
  const { snapshot, deltas } = neededFiles(head, null)
  const read = (name: string): Uint8Array => new Uint8Array(readFileSync(join(directory, name)))
  if (snapshot !== null)
    for (const { principals } of readSnapshotFile(read(snapshot.name), snapshot, head.epoch)) principals.forEach(hear)
  for (const delta of deltas)
    for (const event of readDeltaFile(read(delta.name), delta, head.epoch))
      if (event.type === 'agent') hear(event.principal)
  return [...found.values()]
}

// The streams that are open, and which of them an event concerns.
import type { PrincipalKind } from '../verify/feed-event.ts'
import type { Stream } from './stream.ts'
import type { Subscriber } from './subscribers.ts'

export interface StreamIndex {
  /** @returns the stream of the same subscriber whose place it takes */
  add(stream: Stream): Stream | undefined
  /** @returns whether its subscriber has no stream now */
  remove(stream: Stream): boolean
  has(stream: Stream): boolean
  /** In the order in which they came. Closing some of them meanwhile is allowed. */
  all(): Iterable<Stream>
  own(): ReadonlySet<Stream>
  /** Made with this certificate. */
  bySerial(serial: string): Iterable<Stream>
  byName(kind: PrincipalKind, name: string): Iterable<Stream>
  readonly size: number
}

export const createStreamIndex = (): StreamIndex => {
  const streams = new Map<Subscriber, Stream>()
  const own = new Set<Stream>()
  const serials = createGroups()
  const names = createGroups()
  const nameOf = ({ kind, name }: { readonly kind: PrincipalKind; readonly name: string }): string => `${kind} ${name}`
  return {
    add: stream => {
      const before = streams.get(stream.subscriber)
      streams.set(stream.subscriber, stream)
      if (stream.own) own.add(stream)
      serials.add(stream.peer.serial, stream)
      names.add(nameOf(stream.peer), stream)
      return before
    },
    remove: stream => {
      own.delete(stream)
      serials.remove(stream.peer.serial, stream)
      names.remove(nameOf(stream.peer), stream)
      return streams.get(stream.subscriber) === stream && streams.delete(stream.subscriber)
    },
    has: stream => streams.get(stream.subscriber) === stream,
    all: () => streams.values(),
    own: () => own,
    bySerial: serials.of,
    byName: (kind, name) => names.of(nameOf({ kind, name })),
    get size() {
      return streams.size
    },
  }
}

const createGroups = () => {
  const groups = new Map<string, Set<Stream>>()
  return {
    add: (key: string, stream: Stream): void => {
      const group = groups.get(key)
      if (group === undefined) groups.set(key, new Set([stream]))
      else group.add(stream)
    },
    remove: (key: string, stream: Stream): void => {
      const group = groups.get(key)
      group?.delete(stream)
      if (group?.size === 0) groups.delete(key)
    },
    of: (key: string): Iterable<Stream> => groups.get(key) ?? [],
  }
}

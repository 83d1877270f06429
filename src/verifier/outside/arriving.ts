// A body whose parts come as messages, as something to be read once.

export interface ArrivingBody {
  push(bytes: Uint8Array): void
  end(): void
  /** What did not get read is not read any more. */
  fail(error: unknown): void
  /** @throws what it failed with */
  read(): AsyncGenerator<Uint8Array, void, undefined>
}

export interface Reading {
  /** After each part. */
  readonly taken: () => void
  /** The reader went away before the end. */
  readonly left: () => void
}

export const createArrivingBody = ({ taken, left }: Reading): ArrivingBody => {
  // Owned by this closure.
  const parts: Uint8Array[] = []
  let end: { readonly error: unknown } | 'good' | null = null
  let wake = (): void => {}
  return {
    push: bytes => {
      parts.push(bytes)
      wake()
    },
    end: () => {
      end ??= 'good'
      wake()
    },
    fail: error => {
      end ??= { error }
      wake()
    },
    read: async function* () {
      try {
        for (;;) {
          if (end !== null && end !== 'good') throw end.error
          const next = parts.shift()
          if (next !== undefined) {
            taken()
            yield next
          } else if (end === 'good') return
          else
            await new Promise<void>(resolve => {
              wake = resolve
            })
        }
      } finally {
        if (end === null) left()
      }
    },
  }
}

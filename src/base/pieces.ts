// Bytes that are made as they are needed, piece by piece: for what is too long to be there twice.

export interface Pieces extends Iterable<Uint8Array> {
  /** Octets of all pieces together. */
  readonly length: number
}

export const joinPieces = (parts: readonly Pieces[]): Pieces => ({
  length: parts.reduce((sum, part) => sum + part.length, 0),
  *[Symbol.iterator]() {
    for (const part of parts) yield* part
  },
})

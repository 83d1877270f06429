// Requests about whose end two readers may disagree (RFC 9112 §6.3, §11.2): what each has behind its request line and Host.

/** A front that reads one of them otherwise than the server would let the request behind it in as somebody else's. */
export const ambiguousRequests: readonly (readonly [is: string, head: string])[] = [
  ['Content-Length beside Transfer-Encoding', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['Transfer-Encoding beside Content-Length', 'Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n'],
  ['two lengths', 'Content-Length: 0\r\nContent-Length: 4\r\n\r\n'],
  ['a list of lengths', 'Content-Length: 0, 4\r\n\r\n'],
  ['a length with a sign', 'Content-Length: +0\r\n\r\n'],
  ['a length in hexadecimal', 'Content-Length: 0x0\r\n\r\n'],
  ['a length below nothing', 'Content-Length: -1\r\n\r\n'],
  ['a length beyond 64 bits', 'Content-Length: 18446744073709551616\r\n\r\n'],
  ['chunked that is not the last coding', 'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n'],
  ['chunked in disguise', 'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
  ['a space before the colon', 'Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n'],
  ['a header that goes on in the next line (obs-fold)', 'Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n'],
  ['a header line that ends with a bare CR', 'X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a header line that ends with a bare LF', 'X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['NUL in a header', 'X: \0y\r\n\r\n'],
  ['a chunk whose size is none', 'Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n'],
  ['a chunk whose size has a sign', 'Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n'],
  ['a chunk beyond 64 bits', 'Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nx'],
  ['a chunk that is longer than it says', 'Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n'],
  ['a bare LF behind a chunk size', 'Transfer-Encoding: chunked\r\n\r\n0\n\n'],
]

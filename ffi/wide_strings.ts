/** Strings as the W functions of Windows take them. */

/** UTF-16 with the zero that ends it. */
export function wide(text: string): Uint16Array<ArrayBuffer> {
  return Uint16Array.from({ length: text.length + 1 }, (_, i) => text.charCodeAt(i) || 0);
}

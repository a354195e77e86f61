/** Memory of others, by address. It must be there for as long as what is made of it is used. */

/** Bytes at an address. */
export function nativeBytes(address: bigint, length: number): Uint8Array<ArrayBuffer> {
  if (length === 0) return new Uint8Array(0);
  const pointer = Deno.UnsafePointer.create(address);
  if (pointer === null) throw new TypeError("null pointer");
  return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, length));
}

/** Bytes at an address, to read and write numbers in. */
export function nativeView(address: bigint, length: number): DataView<ArrayBuffer> {
  return new DataView(nativeBytes(address, length).buffer);
}

/** UTF-16 up to its zero. */
export function nativeWideString(address: bigint): string {
  const pointer = Deno.UnsafePointer.create(address);
  if (pointer === null) return "";
  const view = new Deno.UnsafePointerView(pointer);
  let text = "";
  for (let at = 0;; at += 2) {
    const unit = view.getUint16(at);
    if (unit === 0) return text;
    text += String.fromCharCode(unit);
  }
}

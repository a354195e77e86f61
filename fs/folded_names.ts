/** Names that a system without regard to case takes for the same. */

/**
 * What names have in common that Windows takes for the same: each UTF-16 unit in upper case where that is one unit,
 * as NTFS does.
 */
export function foldName(name: string): string {
  let folded = "";
  for (let i = 0; i < name.length; i++) {
    const upper = name.charAt(i).toUpperCase();
    folded += upper.length === 1 ? upper : name.charAt(i);
  }
  return folded;
}

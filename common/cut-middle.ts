/** A text of at most so many characters: of a longer one the middle is left out, since a failed command's exit code is at its end. */
export function cutMiddle(text: string, most: number): string {
  if (text.length <= most) return text;
  const mark = ` … (${text.length - most} characters were left out) … `;
  const kept = Math.max(0, most - mark.length);
  const tail = Math.floor(kept / 4);
  return `${text.slice(0, kept - tail)}${mark}${tail === 0 ? '' : text.slice(-tail)}`.toWellFormed();
}

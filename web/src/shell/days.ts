const LONG = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" });
const LONG_WITH_YEAR = new Intl.DateTimeFormat("en", { dateStyle: "long" });
const SHORT = new Intl.DateTimeFormat("en", { day: "numeric", month: "short" });
const SHORT_WITH_YEAR = new Intl.DateTimeFormat("en", { dateStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hour12: false });

/** Tells days apart, as they are where the person is. */
export function dayKey(time: Date): string {
  return `${time.getFullYear()}-${time.getMonth()}-${time.getDate()}`;
}

/** A day as a heading over what was said on it. */
export function longDay(time: Date, now = new Date()): string {
  return nearDay(time, now) ?? (sameYear(time, now) ? LONG : LONG_WITH_YEAR).format(time);
}

/** A day in a list. */
export function shortDay(time: Date, now = new Date()): string {
  return nearDay(time, now) ?? (sameYear(time, now) ? SHORT : SHORT_WITH_YEAR).format(time);
}

export function clock(time: Date): string {
  return CLOCK.format(time);
}

function nearDay(time: Date, now: Date): string | undefined {
  if (dayKey(time) === dayKey(now)) {
    return "Today";
  }
  const yesterday = new Date(now);
  yesterday.setDate(now.getDate() - 1);
  return dayKey(time) === dayKey(yesterday) ? "Yesterday" : undefined;
}

function sameYear(time: Date, now: Date): boolean {
  return time.getFullYear() === now.getFullYear();
}

package progress

import (
	"fmt"
	"math"
	"time"
)

var units = [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}

// scale returns the unit in which n is shown, as its index and in bytes.
func scale(n int64) (unit int, size float64) {
	v := math.Abs(float64(n))
	// 999,950 would be rounded to 1000.0 kB: it is 1.0 MB already.
	for size = 1; v >= 1000 || unit > 0 && v >= 999.95; unit++ {
		v /= 1000
		size *= 1000
	}
	return unit, size
}

func inUnit(n int64, unit int, size float64, digits int) string {
	if unit == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.*f", digits, float64(n)/size)
}

// Bytes returns n in a decimal unit that suits it: "512 B", "26.7 MB".
func Bytes(n int64) string {
	unit, size := scale(n)
	return inUnit(n, unit, size, 1) + " " + units[unit]
}

// ratio returns done of total in the unit of the total: "1.3/26.7 MB". From GB
// on there are two digits where they fit, or it would seem to stand still.
func ratio(done, total int64) string {
	unit, size := scale(total)
	digits := 1
	if unit >= 3 && float64(total)/size < 99.995 {
		digits = 2
	}
	return inUnit(done, unit, size, digits) + "/" + inUnit(total, unit, size, digits) + " " + units[unit]
}

// Rate returns the speed of n bytes in the time d: "12.3 MB/s". It is empty if
// d is not positive.
func Rate(n int64, d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return perSecond(float64(n) / d.Seconds())
}

func perSecond(rate float64) string {
	// Out of range, the conversion would yield anything.
	if rate >= math.MaxInt64 {
		return Bytes(math.MaxInt64) + "/s"
	}
	return Bytes(int64(rate)) + "/s"
}

// Duration returns d with the precision a human wants: "35 ms", "0.8 s",
// "12 s", "1 min 12 s", "2 h 5 min", "3 d 4 h". A negative d counts as 0.
func Duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "0 s"
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return wholeSeconds(d.Round(time.Second))
}

// wholeSeconds is Duration without fractions, for numbers that change.
func wholeSeconds(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 60*60:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 24*60*60:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %d h", s/86400, s/3600%24)
}

// left returns the time left in words, empty if it is not known. It is never
// "0 s" while something is left.
func left(done, total int64, rate float64) string {
	d, ok := eta(done, total, rate)
	if !ok {
		return ""
	}
	return wholeSeconds(d + time.Second - 1)
}

// idleText says that nothing comes where something should, empty if that is
// not so.
func idleText(d time.Duration) string {
	if d < idleAfter {
		return ""
	}
	return "no byte for " + wholeSeconds(d)
}

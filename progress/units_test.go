package progress

import (
	"math"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for _, tc := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"},
		{1, "1 B"},
		{999, "999 B"},
		{1000, "1.0 kB"},
		{1049, "1.0 kB"},
		{26_700_000, "26.7 MB"},
		{999_949, "999.9 kB"},
		{999_950, "1.0 MB"}, // and not 1000.0 kB
		{999_999_999, "1.0 GB"},
		{1_000_000_000_000, "1.0 TB"},
		{math.MaxInt64, "9.2 EB"},
		{-26_700_000, "-26.7 MB"},
		{math.MinInt64, "-9.2 EB"},
	} {
		if got := Bytes(tc.n); got != tc.want {
			t.Errorf("Bytes(%d) = %q, want %q", tc.n, got, tc.want)
		}
	}
}

func TestRatio(t *testing.T) {
	for _, tc := range []struct {
		done, total int64
		want        string
	}{
		{0, 26_700_000, "0.0/26.7 MB"},
		{12_345_678, 26_700_000, "12.3/26.7 MB"},
		{3, 512, "3/512 B"},
		{999_900_000, 999_900_000, "999.9/999.9 MB"},
		{1_234_000_000, 5_678_000_000, "1.23/5.68 GB"},
		{99_994_000_000, 99_994_000_000, "99.99/99.99 GB"},
		{99_996_000_000, 99_996_000_000, "100.0/100.0 GB"},
	} {
		if got := ratio(tc.done, tc.total); got != tc.want {
			t.Errorf("ratio(%d, %d) = %q, want %q", tc.done, tc.total, got, tc.want)
		}
	}
}

func TestRate(t *testing.T) {
	for _, tc := range []struct {
		n    int64
		d    time.Duration
		want string
	}{
		{24_600_000, 2 * time.Second, "12.3 MB/s"},
		{500, time.Second, "500 B/s"},
		{0, time.Second, "0 B/s"},
		{1, 0, ""},
		{1, -time.Second, ""},
		{math.MaxInt64, time.Nanosecond, "9.2 EB/s"},
	} {
		if got := Rate(tc.n, tc.d); got != tc.want {
			t.Errorf("Rate(%d, %v) = %q, want %q", tc.n, tc.d, got, tc.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, tc := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "0 s"},
		{0, "0 s"},
		{time.Millisecond, "1 ms"},
		{99 * time.Millisecond, "99 ms"},
		{800 * time.Millisecond, "0.8 s"},
		{9949 * time.Millisecond, "9.9 s"},
		{9950 * time.Millisecond, "10 s"},
		{59_600 * time.Millisecond, "1 min 0 s"},
		{72 * time.Second, "1 min 12 s"},
		{59*time.Minute + 59*time.Second, "59 min 59 s"},
		{2*time.Hour + 5*time.Minute + 59*time.Second, "2 h 5 min"},
		{76*time.Hour + 30*time.Minute, "3 d 4 h"},
	} {
		if got := Duration(tc.d); got != tc.want {
			t.Errorf("Duration(%v) = %q, want %q", tc.d, got, tc.want)
		}
	}
}

func TestLeft(t *testing.T) {
	for _, tc := range []struct {
		done, total int64
		rate        float64
		want        string
	}{
		{0, 100, 10, "10 s"},
		{99, 100, 10, "1 s"}, // a tenth of a second is not nothing
		{0, 7200, 1, "2 h 0 min"},
		{100, 100, 10, ""},
		{101, 100, 10, ""},
		{0, 0, 10, ""},
		{0, 100, 0, ""},
		{0, math.MaxInt64, 1, ""},
		{0, 100, math.SmallestNonzeroFloat64, ""},
	} {
		if got := left(tc.done, tc.total, tc.rate); got != tc.want {
			t.Errorf("left(%d, %d, %g) = %q, want %q", tc.done, tc.total, tc.rate, got, tc.want)
		}
	}
}

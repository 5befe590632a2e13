package app

import "strings"

// Nearest returns the word of known that text is most likely a slip of: at most two letters are missing, too
// many, others or swapped with their neighbor, and fewer than half of them. "" where there is none.
func Nearest(text string, known []string) string {
	best, found := 3, ""
	for _, word := range known {
		if d := slips(strings.ToLower(text), word); d < best && 2*d < len(word) {
			best, found = d, word
		}
	}
	return found
}

// slips counts the letters that differ (optimal string alignment).
func slips(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			if i == 0 || j == 0 {
				rows[i][j] = i + j
				continue
			}
			other := 1
			if a[i-1] == b[j-1] {
				other = 0
			}
			least := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+other)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				least = min(least, rows[i-2][j-2]+1)
			}
			rows[i][j] = least
		}
	}
	return rows[len(a)][len(b)]
}

package codebase

import (
	"slices"
)

// cycles finds import cycles between packages. Every strongly connected
// component (Tarjan, "Depth-first search and linear graph algorithms", SIAM J.
// Comput. 1972; written without recursion) is told once, as a shortest cycle
// through its smallest package: a real path that starts there and whose last
// package imports its first. sizes runs parallel: the packages of the whole
// component. paths are the packages, sorted; next are their imports.
func cycles(paths []string, next [][]int) (found [][]string, sizes []int) {
	var tangles [][]int
	for _, members := range components(next) {
		if len(members) > 1 {
			slices.Sort(members)
			tangles = append(tangles, members)
		}
	}
	slices.SortFunc(tangles, slices.Compare) // the order of their smallest, which is that of the paths
	for _, members := range tangles {
		inside := make(map[int]bool, len(members))
		for _, m := range members {
			inside[m] = true
		}
		var names []string
		for _, n := range shortestCycle(next, inside, members[0]) {
			names = append(names, paths[n])
		}
		found, sizes = append(found, names), append(sizes, len(members))
	}
	return found, sizes
}

// components are the strongly connected components of a graph.
func components(next [][]int) [][]int {
	n := len(next)
	order, low, on := make([]int, n), make([]int, n), make([]bool, n)
	at := make([]int, n) // the next edge of each node to follow
	var stack, path []int
	var out [][]int
	count := 0
	for start := range n {
		if order[start] != 0 {
			continue
		}
		path = append(path[:0], start)
		for len(path) > 0 {
			v := path[len(path)-1]
			if order[v] == 0 {
				count++
				order[v], low[v], on[v] = count, count, true
				stack = append(stack, v)
			}
			if at[v] < len(next[v]) {
				w := next[v][at[v]]
				at[v]++
				if order[w] == 0 {
					path = append(path, w)
				} else if on[w] {
					low[v] = min(low[v], order[w])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				up := path[len(path)-1]
				low[up] = min(low[up], low[v])
			}
			if low[v] != order[v] {
				continue
			}
			var members []int
			for {
				w := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				on[w] = false
				members = append(members, w)
				if w == v {
					break
				}
			}
			out = append(out, members)
		}
	}
	return out
}

// shortestCycle is a shortest path from start back to it within a component.
func shortestCycle(next [][]int, inside map[int]bool, start int) []int {
	from := map[int]int{}
	queue := []int{start}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, w := range next[v] {
			if w == start {
				cycle := []int{v}
				for v != start {
					v = from[v]
					cycle = append(cycle, v)
				}
				slices.Reverse(cycle)
				return cycle
			}
			if _, seen := from[w]; !seen && inside[w] {
				from[w] = v
				queue = append(queue, w)
			}
		}
	}
	return []int{start}
}

// Command part is a plugin of the program plugged: code that comes into a process later, with
// go statements of its own.
package main

// Work has n numbers go to another goroutine and back, and returns their sum.
func Work(n int) int {
	there, back := make(chan int), make(chan int)
	go func() {
		for i := range there {
			back <- i
		}
		close(back)
	}()
	sum := 0
	for i := 1; i <= n; i++ {
		there <- i
		sum += <-back
	}
	close(there)
	<-back
	return sum
}

func main() {}

#include <vector>
namespace outer::inner {
namespace {
template <typename T, int N = (3 > 2)>
class Stack : public Base<T>, private Other {
 public:
  /// Makes one. Yes.
  Stack() : a_(1), b_{2}, c_(f({1})) {}
  explicit Stack(const T& t) noexcept(false) : Base<T>{t} { if (t) {} }
  ~Stack() override { }
  Stack(Stack&&) = default;
  Stack& operator=(const Stack&) = delete;
  T operator()(int a) const { return a; }
  bool operator==(const Stack& o) const { return a_ == o.a_; }
  operator bool() const { return true; }
  friend std::ostream& operator<<(std::ostream& os, const Stack& s) { return os; }
  template <class U> auto get() const -> decltype(U{}) { return U{}; }
  static int count;
  virtual void pure() = 0;
  int bits : 3;
  std::vector<int> v{1, 2};
 private:
  struct Nested { int x = 0; void m() {} };
  enum class Kind : int { A, B };
  void hidden() {}
};
}  // namespace
template <>
int Stack<int, 3>::method(std::map<int, std::vector<int>> m) const & {
  auto lambda = [&](int a) { return a && m.empty(); };
  struct Local { void in_local() { } };
  const char* raw = R"x(} " )" )x";
  int n = 1'000'000;
  for (auto&& x : m) { try { } catch (...) { } }
  return lambda(n);
}
Outer::Inner::Inner(int a)
    : a_(a),
      b_{a} {
}
Outer::~Outer() = default;
std::ostream& Outer::operator<<(int x) { return *this; }
[[nodiscard]] constexpr int attributed() { return 1; }
TEST(Suite, Case) { EXPECT_TRUE(true); }
ABSL_NAMESPACE_BEGIN
void locked() ABSL_LOCKS(mu) { }
class EXPORT Exported final : public A { void m(); };
struct Aggregate { int a; } instance = { 1 };
std::string global{"x{"};
auto trailing(int a) -> std::vector<int> { return {a}; }
int tried(int a) try {
  return a;
} catch (const std::exception& e) {
  return 0;
}
extern "C" int c_linkage(void) { return 0; }
using Alias = std::vector<int>;
}  // namespace outer::inner
int at_the_end() { return 0; }

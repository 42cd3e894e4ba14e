/*-------------------------------------------------------------------------
 *
 * regex.cc
 *	  RE2 for the C code: the only C++ of the project.
 *
 * Nothing may be thrown into C, and no ereport may jump over C++ frames, so
 * every function is noexcept, catches everything, and calls no PostgreSQL
 * code.
 *
 *-------------------------------------------------------------------------
 */
#include <re2/re2.h>

#include <cstring>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "traceql/regex.h"

/* Memory for one compiled pattern and its automaton, and how many are kept. */
static const int64_t max_memory = 4 << 20;
static const size_t  max_cached = 32;

/* Is the pattern ".*", plain text and ".*"?  Since "." matches everything in UTF-8 text, it asks whether that text is in another. */
static bool
is_contained(const std::string &pattern)
{
	return pattern.size() >= 4 && pattern.compare(0, 2, ".*") == 0 &&
	       pattern.compare(pattern.size() - 2, 2, ".*") == 0 &&
	       pattern.substr(2, pattern.size() - 4).find_first_of("\\.+*?()[]{}|^$") == std::string::npos;
}

struct TqlRegex
{
	std::string pattern;
	re2::RE2    re;
	bool        contained;

	TqlRegex(const std::string &p, const re2::RE2::Options &options)
		: pattern(p), re(p, options), contained(is_contained(p))
	{
	}
};

namespace
{
/* Most recently used first; never destroyed, since the process may exit any time. */
struct Cache
{
	std::list<std::unique_ptr<TqlRegex>>                                            entries;
	std::unordered_map<std::string, std::list<std::unique_ptr<TqlRegex>>::iterator> index;
};

Cache *cache;
} // namespace

extern "C" TqlRegex *
tql_regex_get(const char *pattern, size_t length) noexcept
{
	try
	{
		if (cache == nullptr)
			cache = new Cache;

		/* the usual case: the pattern of the row before */
		if (!cache->entries.empty())
		{
			TqlRegex *first = cache->entries.front().get();

			if (first->pattern.size() == length && first->pattern.compare(0, length, pattern, length) == 0)
				return first;
		}

		std::string key(pattern, length);
		auto        found = cache->index.find(key);

		if (found != cache->index.end())
		{
			cache->entries.splice(cache->entries.begin(), cache->entries, found->second);
			return cache->entries.front().get();
		}

		re2::RE2::Options options;

		options.set_log_errors(false);
		options.set_max_mem(max_memory);
		options.set_dot_nl(true);

		auto regex = std::make_unique<TqlRegex>(key, options);

		if (!regex->re.ok())
			return nullptr;
		if (cache->entries.size() >= max_cached)
		{
			cache->index.erase(cache->entries.back()->pattern);
			cache->entries.pop_back();
		}
		cache->entries.push_front(std::move(regex));
		cache->index[key] = cache->entries.begin();
		return cache->entries.front().get();
	}
	catch (...)
	{
		return nullptr;
	}
}

extern "C" bool
tql_regex_valid(const char *pattern, size_t length) noexcept
{
	return tql_regex_get(pattern, length) != nullptr;
}

extern "C" bool
tql_regex_match(TqlRegex *regex, const char *text, size_t length) noexcept
{
	if (regex->contained)
		return memmem(text, length, regex->pattern.data() + 2, regex->pattern.size() - 4) != nullptr;
	try
	{
		return re2::RE2::FullMatch(re2::StringPiece(text, length), regex->re);
	}
	catch (...)
	{
		return false;
	}
}

// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

// The words of the synthetic tasks: the project's own lists. Each word is in one of them, once.
namespace llama {

/// The words of a text in which one space stands between each two.
template <std::size_t count>
constexpr std::array<std::string_view, count> split_words(std::string_view text) {
    std::array<std::string_view, count> words{};
    for (std::string_view& word : words) {
        word = text.substr(0, text.find(' '));
        text.remove_prefix(word.size() == text.size() ? word.size() : word.size() + 1);
    }
    return words;
}

constexpr std::size_t count_words(std::string_view text) {
    std::size_t count = 1;
    for (const char c : text) count += c == ' ' ? 1 : 0;
    return count;
}

inline constexpr std::string_view adjective_text =
    "able active agile airy alert amber ample ancient angry antique arid ashen awake aware awkward azure balmy bare "
    "basic bitter blank bleak blind blond blue blunt bold bony brave brief bright brisk broad broken bronze brown "
    "bulky bumpy busy calm candid careful careless cheap cheerful chilly civil classic clean clear clever cloudy "
    "clumsy coarse cold comic common compact complete cool coral correct costly cosy covert crafty creamy crimson "
    "crisp crooked crude cruel curious curly curved daily dainty damp dapper daring dark dazzling dear decent deep "
    "dense dim direct distant dizzy double drab dry dull dusky dusty dutiful eager early earnest earthy eastern easy "
    "elastic elder elegant empty endless equal even exact exotic fabled faint fair faithful famous fancy fearless "
    "feeble fertile fierce fiery final fine firm flat fluffy fond foreign formal fragile fragrant frank free frequent "
    "fresh friendly frosty frozen frugal fuzzy gallant gaudy gaunt gentle genuine giant gifted glad gleaming gloomy "
    "glossy golden graceful grand grave greasy green grim gritty guilty handy happy hard hardy harsh hasty hazy "
    "hearty heavy hidden high hoarse hollow honest hot huge humble humid hungry icy ideal idle immense indigo inner "
    "ivory jolly jovial juicy keen kind large late lavish lazy lean legal level light lilac limp little lively local "
    "lofty lonely long loose loud lovely low loyal lucid lucky lunar lush magic maroon massive mature meagre mellow "
    "mental merry messy mighty mild milky minor misty mobile modern modest moist muddy mute mystic naive narrow "
    "native neat nervous neutral new nimble noble noisy northern novel numb oaken obvious odd olive open orange "
    "orderly ornate outer oval pale partial patient peaceful perfect pink plain pleasant plump poetic polite poor "
    "portly precise pretty prim private prompt proud public puny pure purple quaint quick quiet radiant rainy random "
    "rapid rare raw ready real recent regal remote rich rigid ripe robust rocky rosy rotten rough round royal ruddy "
    "rugged rural rusty sad salty sandy sane scarlet secret secure serene serious severe shabby shaggy shallow sharp "
    "sheer shiny short shrill shy silent silky silver simple sincere single sleek sleepy slender slim slow sly small "
    "smart smoky smooth snowy sober soft solar solemn solid sombre sour southern spare sparse special spicy splendid "
    "spotless square stale stark steady steep stern sticky stiff still stormy stout straight strange strict strong "
    "sturdy subtle sudden sunny superb supple sure sweet swift tall tame tangy tardy tart tasty tender tense tepid "
    "thick thin thirsty thorough tidy timid tiny tired total tough tranquil trim tropical true twin unique upper "
    "urban urgent useful usual vague vain valid vast velvet verbal violet vital vivid vocal warm wary weak wealthy "
    "weary western wet white whole wide wild willing windy wintry wise witty wooden woolly wordy worn worthy yellow "
    "young zesty";

inline constexpr std::string_view noun_text =
    "acorn actor album alley almond alphabet anchor angle ankle antler apple apricot apron arch arena armour arrow "
    "artist attic autumn avenue badger bakery balcony ball ballad bamboo banjo banner barley barn barrel basin basket "
    "bath beach beacon beaker beard beaver bedroom beetle bell bench berry bicycle bird biscuit blanket blossom boat "
    "bonnet book border bottle boulder bowl bracelet branch bread brick bridge broom brother bucket buffalo builder "
    "bundle butcher butter button cabbage cabin cable cactus camel camera canal candle canoe canvas canyon captain "
    "caravan carpet carrot cart castle cathedral cave cedar cellar cello chain chair chalk chamber channel chapel "
    "chapter cherry chess chimney church circle citizen city cliff cloak clock clover coach coast coat coffee coin "
    "collar column comet compass concert copper cork corner cottage cotton council cousin cradle crane crater cricket "
    "crown crystal cupboard curtain cushion dagger dairy daisy dancer daughter dawn deer desert desk diamond diary "
    "dinner doctor dolphin donkey door dragon drawer dress driver drum duchess eagle earring easel echo editor elbow "
    "elephant elm emerald engine envelope evening fabric factory falcon farmer farmhouse feather fence fern ferry "
    "festival fiddle field finger fireplace flag flame flask flute forest fork fortress fossil fountain fox freckle "
    "friend fruit funnel galaxy gallery garden garlic gate gazelle giraffe glacier glass glove goat goose granary "
    "granite grape gravel guest guitar hammer hammock harbour harp harvest hat hawk hazel hedge helmet hermit heron "
    "hill hinge holly honey hoof horizon horse hotel house hunter iceberg inkwell insect island jacket jam jar "
    "jasmine jaw jewel journal jug juice jungle kettle keyboard king kitchen kite kitten knight ladder lagoon lake "
    "lamb lamp lantern larch lark laurel lawn lawyer leaf leather lemon leopard letter library lighthouse lily linen "
    "lion lizard lobster locket lodge magnet magpie mantle map maple marble market marsh mask mast meadow medal melon "
    "merchant meteor mill miner mirror mitten moat monk moon morning mosaic moss moth mountain mouse museum mushroom "
    "music napkin necklace needle nephew nest nettle nickel night notebook nurse nutmeg oak oar oasis ocean office "
    "onion opal orchard orchestra organ otter oven owl oyster paddle page painter palace palm panther paper parade "
    "parcel parrot parsley pasture path pavement peach peacock pear pearl pebble pelican pencil pepper piano picture "
    "pigeon pillar pillow pilot pine pirate planet plank plate platform plaza plum pocket poem poet pond pony poplar "
    "porch portrait potato potter powder prairie prince printer prism puddle pulley pumpkin puppet pyramid quarry "
    "quartz quilt quiver rabbit raccoon radio raft railway rainbow raisin raven razor reef ribbon rice ring river "
    "robin roof room rooster rope rose ruby saddle sailor salad salmon sandal satchel saucer sausage scarf school "
    "scissors sculptor seal seashell season shadow shed sheep shelf shepherd ship shirt shoe shoulder shovel shrine "
    "sister skeleton slipper snail sofa soldier song soup spade sparrow spear spider spinach sponge spoon spruce "
    "squirrel stable stadium staircase stamp star station statue steeple stone stool stove stream street string "
    "summer sunrise sunset swallow swan table tailor tapestry teacher teapot temple tent theatre thicket thimble "
    "thistle thumb thunder tiger timber toast tomato tower train treasure tree trumpet tulip tunnel turnip turtle "
    "uncle valley vase veil viaduct village vine vineyard violin visitor volcano waffle wagon waiter walnut walrus "
    "wardrobe warehouse water waterfall weasel weaver wheat wheel whistle widow willow window winter wizard wolf "
    "woodpecker wool workshop yacht yard zebra";

inline constexpr std::string_view verb_text =
    "accept achieve admire admit adopt advise agree allow amuse announce appear applaud approve argue arise arrange "
    "arrive ascend assemble assist assure attach attend attract avoid awaken bake balance bargain beckon become beg "
    "begin believe belong bend blend bless boast boil borrow bother bounce bow breathe bring build bury buy calculate "
    "carry carve catch celebrate change chase chatter choose chop climb cling close collect combine compare compose "
    "conceal connect consider consult contain continue convince cook copy correspond count crawl create creep cross "
    "crumble cultivate dance dare decide declare decorate defend deliver depart depend descend describe deserve "
    "design destroy detect devote dig digest dine disappear discover discuss dissolve divide dream drift drink earn "
    "eat educate elect embark employ enclose encourage endure enjoy enter erase escape establish examine exchange "
    "expand expect explain explore express fasten fetch fill find finish fix flee flourish flow fold follow forbid "
    "forget forgive freeze gain gallop gather gaze giggle give glance glide glow grasp greet grind groan grow grumble "
    "guard guess guide happen hatch haul heal hear help hesitate hide hoist hope hover hurry identify ignore imagine "
    "imitate improve include increase inform inherit insist inspect inspire intend introduce invent invite join judge "
    "juggle jump justify kick kneel knit knock know laugh launch lead learn leave lend lift linger listen live loosen "
    "lose maintain manage march marry measure meet melt mend mention mingle move multiply mumble murmur need neglect "
    "nibble nod notice obey observe obtain occupy occur offer omit operate oppose organise overcome owe own paint "
    "participate pause perform persuade plunge polish ponder pour praise prefer prepare preserve prevent proceed "
    "produce promise pronounce protect prove provide publish pull punish purchase push question quote raise reach "
    "read rebuild receive recite recognise recommend reduce reflect refuse regret rejoice relax rely remain remember "
    "remind remove repair repeat replace reply require rescue resemble resist respect restore retire return reveal "
    "revise reward ride rinse roam roar rotate rub run rush scatter scold scrape scratch search seek seem select sell "
    "send separate serve sew shake share shiver shout show shrink shuffle sing sit sketch sleep slide smile sneeze "
    "soak solve speak spend spin splash spread sprinkle squeeze stand stare stay steal steer stir stretch stroll "
    "struggle study stumble succeed suggest supply support suppose surround survive suspect swear sweep swim take "
    "talk teach tease tell thank think throw tickle toss touch translate travel tremble trust try tumble twist "
    "understand undo unfold unite unlock unpack use utter vanish vary visit wait wake walk wander want warn wash "
    "waste wave weave weigh welcome whisper win wink wipe wish withdraw wobble wonder worry wrap write yawn yearn "
    "yield";

inline constexpr auto adjectives = split_words<count_words(adjective_text)>(adjective_text);
inline constexpr auto nouns = split_words<count_words(noun_text)>(noun_text);
inline constexpr auto verbs = split_words<count_words(verb_text)>(verb_text);

}  // namespace llama
